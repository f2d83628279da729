// Logs are events: one line per event, logged once, where it is handled.
//
//   log::info("precopy.round", {{"migration", id}, {"round", n}, {"dirty_pages", dirty}});
//
// Lines go to standard error: `2026-11-20T12:00:00.123Z info  precopy.round migration=... round=3`, or as
// one JSON object per line when GODWIT_LOG=json. Thread-safe.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

namespace godwit::log {

enum class Level { debug = 1, info, warn, error, none };  // none: nothing is logged

struct Field {
  std::string key;
  std::string value;
  bool quoted = true;

  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, bool v) : key(k), value(v ? "true" : "false"), quoted(false) {}
  template <class T>
    requires(std::integral<T> || std::floating_point<T>)
  Field(std::string_view k, T v) : key(k), value(std::to_string(v)), quoted(false) {}
};

// `program` names the process in every line. Called once from main; before it, lines say "godwit".
void init(std::string program, Level least = Level::info);

void event(Level level, std::string_view what, std::initializer_list<Field> fields);
inline void debug(std::string_view what, std::initializer_list<Field> fields = {}) {
  event(Level::debug, what, fields);
}
inline void info(std::string_view what, std::initializer_list<Field> fields = {}) { event(Level::info, what, fields); }
inline void warn(std::string_view what, std::initializer_list<Field> fields = {}) { event(Level::warn, what, fields); }
inline void error(std::string_view what, std::initializer_list<Field> fields = {}) {
  event(Level::error, what, fields);
}

}  // namespace godwit::log
