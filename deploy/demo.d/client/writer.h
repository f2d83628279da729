// The load: so many SETs a second on random keys, each with a new version, everything acknowledged logged. A write
// whose connection broke before its answer came is logged as unknown and never tried again. When the connection breaks,
// or nothing has been acknowledged for a while, the locator says where to go.
#pragma once

#include "deploy/demo.d/client/locator.h"
#include "deploy/demo.d/client/write_log.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>

namespace godwit::demo {

struct WriterOptions {
  std::uint32_t keys = 0;
  std::uint32_t per_second = 5000;
  std::uint64_t first_version = 1;
  std::uint32_t in_flight = 256;              // at most, so that a stall does not pile up
  std::chrono::milliseconds patience{300};    // without an answer, before asking where the workload is
  std::chrono::milliseconds give_up{60'000};  // without an answer, before failing
};

struct WriterReport {
  std::uint64_t acknowledged = 0;
  std::uint64_t unknown = 0;
  std::uint64_t refused = 0;  // redis answered with an error
  std::uint64_t reconnects = 0;
  double seconds = 0;
  double longest_gap_ms = 0;  // between two acknowledged writes
  double second_longest_gap_ms = 0;
};

class Writer {
 public:
  Writer(WriterOptions options, const Values& values, const Locator& locator, LogWriter& log, std::uint64_t seed);

  // Until `stop` is set; then waits for what is in flight.
  WriterReport run(const std::atomic<bool>& stop);

 private:
  using Time = std::chrono::steady_clock::time_point;

  void connect();
  void break_off();
  void look_elsewhere();
  void send_due();
  void take_replies();
  void wait_until_next();
  void note_gap(Time now);

  WriterOptions options_;
  const Values& values_;
  const Locator& locator_;
  LogWriter& log_;
  std::mt19937_64 random_;
  WriterReport report_;

  std::optional<Connection> connection_;
  Address address_;
  std::deque<Write> in_flight_;
  std::uint64_t next_version_ = 1;
  Time pace_start_;
  std::uint64_t pace_sent_ = 0;
  Time last_answer_;
  Time last_look_;
  bool stopping_ = false;
};

}  // namespace godwit::demo
