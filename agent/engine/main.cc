// godwit-engine: the only program that touches other processes.
//
//   godwit-engine survey -t PID [--json] [--tcp-close]
//   godwit-engine dump -t PID -D DIR [--leave-running] [--tcp-close]
//   godwit-engine restore -D DIR [--tcp-close] [--pidfile FILE]
//   godwit-engine job --control-fd N
//
// Exit codes: 0 done, 1 failed, 2 bad command line, 3 refused (nothing was touched).

#include "agent/engine/dump.h"
#include "agent/engine/job.h"
#include "agent/engine/memory/directory_sink.h"
#include "agent/engine/restore.h"
#include "agent/engine/survey.h"
#include "common/base/check.h"
#include "common/base/log.h"

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

struct Arguments {
  std::string command;
  pid_t pid = 0;
  std::string directory;
  std::string pidfile;
  int control = -1;
  bool json = false, leave_running = false, tcp_close = false;
};

[[noreturn]] void usage(const std::string& problem) {
  throw Error(
      Errc::invalid_argument, problem,
      "godwit-engine survey -t PID [--json] | dump -t PID -D DIR [--leave-running] | restore -D DIR [--pidfile FILE] | "
      "job --control-fd N; all with [--tcp-close]");
}

int number(const std::string& text) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end || value < 0 || value > 1 << 22) usage(text + " is no number that can be");
  return static_cast<int>(value);
}

Arguments parse(const std::vector<std::string>& words) {
  Arguments a;
  if (words.empty()) usage("no command");
  a.command = words[0];
  for (std::size_t i = 1; i < words.size(); i++) {
    const auto value = [&]() -> const std::string& {
      if (i + 1 == words.size()) usage(words[i] + " needs a value");
      return words[++i];
    };
    if (words[i] == "-t" || words[i] == "--tree")
      a.pid = number(value());
    else if (words[i] == "-D" || words[i] == "--images-dir")
      a.directory = value();
    else if (words[i] == "--pidfile")
      a.pidfile = value();
    else if (words[i] == "--control-fd")
      a.control = number(value());
    else if (words[i] == "--json")
      a.json = true;
    else if (words[i] == "--leave-running")
      a.leave_running = true;
    else if (words[i] == "--tcp-close")
      a.tcp_close = true;
    else
      usage("unknown option " + words[i]);
  }
  return a;
}

resources::Options options_of(const Arguments& a) {
  resources::Options o;
  o.tcp_close = a.tcp_close;
  return o;
}

int run_survey(const Arguments& a) {
  if (!a.pid) usage("survey needs -t PID");
  const Surveyed s = survey(a.pid, options_of(a));
  if (a.json) {
    std::string text;
    google::protobuf::util::JsonPrintOptions print;
    print.preserve_proto_field_names = true;
    if (!google::protobuf::util::MessageToJsonString(s, &text, print).ok())
      fail(Errc::internal, "the survey cannot be printed");
    std::puts(text.c_str());
  } else {
    for (const Refusal& r : s.refusals())
      fmt::print("refused: {}: {}{}{}\n", r.what(), r.reason(), r.hint().empty() ? "" : "; ", r.hint());
    for (const std::string& notice : s.notices()) fmt::print("notice: {}\n", notice);
    for (const Task& t : s.tasks()) fmt::print("process {} ({}), {} threads\n", t.pid(), t.comm(), t.threads_size());
    fmt::print("{} resident, {} files, {} listening\n", human_bytes(s.resident_bytes()), s.files_size(),
               s.listening_size());
  }
  return s.refusals().empty() ? 0 : 3;
}

constexpr std::chrono::milliseconds child_patience{2000};

int run_dump(const Arguments& a) {
  if (!a.pid || a.directory.empty()) usage("dump needs -t PID and -D DIR");
  const resources::Options options = options_of(a);
  refuse_unsupported(survey(a.pid, options));
  if (::mkdir(a.directory.c_str(), 0700) != 0 && errno != EEXIST) check(-1, "make {}", a.directory);
  UniqueFd directory = open_file(a.directory, O_RDONLY | O_DIRECTORY);
  DirectorySink sink(directory.get());
  Journal journal{UniqueFd()};
  Dump dump(a.pid, options, journal);
  const Dump::Frozen frozen = dump.freeze(0, sink, child_patience);
  sink.save();
  if (a.leave_running)
    dump.release();
  else
    dump.kill();
  for (const Step& s : frozen.steps.list())
    log::info("dump.step", {{"name", s.name()}, {"us", s.nanoseconds() / 1000}});
  log::info("dump.done", {{"pid", a.pid}, {"pages", frozen.round.pages()}, {"bytes", frozen.round.bytes()}});
  return 0;
}

int run_restore(const Arguments& a) {
  if (a.directory.empty()) usage("restore needs -D DIR");
  UniqueFd directory = open_file(a.directory, O_RDONLY | O_DIRECTORY);
  Restore restore({});
  restore.absorb_directory(directory.get());
  const Prepared prepared = restore.finish();
  if (!a.pidfile.empty()) write_file(a.pidfile, fmt::format("{}\n", prepared.tasks(0).pid()), 0644);
  for (const Step& s : prepared.steps())
    log::info("restore.step", {{"name", s.name()}, {"us", s.nanoseconds() / 1000}});
  log::info("restore.done", {{"pid", prepared.tasks(0).pid()}});
  return 0;
}

int run(const std::vector<std::string>& words) {
  const Arguments a = parse(words);
  if (a.command == "survey") return run_survey(a);
  if (a.command == "dump") return run_dump(a);
  if (a.command == "restore") return run_restore(a);
  if (a.command == "job") {
    if (a.control < 0) usage("job needs --control-fd N");
    return run_job(UniqueFd(a.control));
  }
  usage("unknown command " + a.command);
}

int exit_code(Errc code) {
  if (code == Errc::invalid_argument) return 2;
  return code == Errc::refused ? 3 : 1;
}

}  // namespace
}  // namespace godwit::engine

int main(int argc, char** argv) {
  godwit::log::init("godwit-engine");
  try {
    return godwit::engine::run({argv + 1, argv + argc});
  } catch (const godwit::Error& e) {
    godwit::log::error("engine.failed",
                       {{"code", godwit::name(e.errc())}, {"message", e.message()}, {"hint", e.hint()}});
    return godwit::engine::exit_code(e.errc());
  } catch (const std::exception& e) {
    godwit::log::error("engine.failed", {{"code", "internal"}, {"message", e.what()}});
    return 1;
  }
}
