#include "common/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>

namespace godwit::log {
namespace {

struct Sink {
  std::string program = "godwit";
  bool json = false;
  std::shared_ptr<spdlog::logger> logger;

  Sink() {
    const char* form = std::getenv("GODWIT_LOG");
    json = form && std::string_view(form) == "json";
    logger = std::make_shared<spdlog::logger>("godwit", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern(json ? "%v" : "%Y-%m-%dT%H:%M:%S.%eZ %-5l %v", spdlog::pattern_time_type::utc);
    logger->flush_on(spdlog::level::trace);
  }
};

Sink& sink() {
  static Sink s;
  return s;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
    case Level::none: return spdlog::level::off;
  }
  return spdlog::level::info;
}

// spdlog's JSON patterns do not escape the message, so lines are built whole here.
void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

bool plain(std::string_view text) {
  return !text.empty() && text.find_first_of(" \t\r\n\"=\\") == std::string_view::npos;
}

}  // namespace

void init(std::string program, Level least) {
  sink().program = std::move(program);
  sink().logger->set_level(to_spdlog(least));
}

void event(Level level, std::string_view what, std::initializer_list<Field> fields) {
  Sink& s = sink();
  if (!s.logger->should_log(to_spdlog(level))) return;
  std::string line;
  if (s.json) {
    line = "{\"program\":";
    append_quoted(line, s.program);
    line += ",\"event\":";
    append_quoted(line, what);
    for (const Field& f : fields) {
      line += ',';
      append_quoted(line, f.key);
      line += ':';
      if (f.quoted)
        append_quoted(line, f.value);
      else
        line += f.value;
    }
    line += '}';
  } else {
    line = fmt::format("{} {}", s.program, what);
    for (const Field& f : fields) {
      line += fmt::format(" {}=", f.key);
      if (!f.quoted || plain(f.value))
        line += f.value;
      else
        append_quoted(line, f.value);
    }
  }
  s.logger->log(to_spdlog(level), "{}", line);
}

}  // namespace godwit::log
