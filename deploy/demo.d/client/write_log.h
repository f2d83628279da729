// The client's log of its writes: what redis acknowledged, and what was on its way when a connection broke (its outcome
// is unknown: it may have been carried out or not, and is never tried again). One fixed-size record each, in the order
// in which they became known; on one connection that is the order in which redis carried them out.
#pragma once

#include "common/base/fd.h"
#include "deploy/demo.d/client/values.h"

#include <string>
#include <unordered_map>
#include <vector>

namespace godwit::demo {

enum class Outcome : std::uint32_t { acknowledged = 1, unknown = 2 };

struct LogRecord {
  std::uint64_t version = 0;
  std::uint32_t key = 0;
  Outcome outcome = Outcome::acknowledged;
};
static_assert(sizeof(LogRecord) == 16);

class LogWriter {
 public:
  explicit LogWriter(const std::string& path, bool append = false);
  ~LogWriter();
  void append(const LogRecord& record);
  void flush();

 private:
  UniqueFd file_;
  std::vector<LogRecord> pending_;
};

std::vector<LogRecord> read_log(const std::string& path);

// What redis must hold according to a log.
class Expectation {
 public:
  Expectation(std::uint32_t keys, const std::vector<LogRecord>& log);

  std::uint64_t last_acknowledged(std::uint32_t key) const { return acknowledged_[key]; }
  // The last acknowledged write, or a later one whose outcome is unknown.
  bool allows(Write write) const;
  bool is_unknown(Write write) const;

 private:
  std::vector<std::uint64_t> acknowledged_;
  std::unordered_multimap<std::uint32_t, std::uint64_t> unknown_;
};

}  // namespace godwit::demo
