#pragma once
// What every workload program shares. A workload sets up some kernel state, says that it is ready, keeps running while
// it is frozen, dumped and restored or moved to another host, and then proves that nothing about it has changed.
//
// It talks only through files in the directory that is its first argument, so it needs no terminal, pipe or parent:
//   ready    written by the workload: its PID
//   verify   written by the runner when the workload is to check itself: "native", "restore", "live", ...
//   result   written by the workload: "pass" or "fail: sentence"
//   skipped  written by the workload instead: why it cannot run on this machine
//   objects  written by the workload: System V objects, which the runner removes in the end (system_v.h)
//   others   further requests (`asked`) and answers (`tell`) that a single workload defines
//
// Times are seconds of CLOCK_REALTIME, the only clock that two hosts have in common. `lost()` says how long the process
// did not run (frozen, or starved by a busy machine): a wait may be longer by that much and is still exact.
// Threads: `check` may be called from any thread, everything else belongs to the main thread.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <sys/types.h>

namespace godwit::workloads {

// How much later than asked a wait may end on a busy machine, and how much earlier a clock may say so.
inline constexpr double late = 0.6;
inline constexpr double early = 0.02;

class Workload {
 public:
  Workload(int argc, char** argv);

  // From here on the process may be frozen or moved at any instruction.
  void ready();

  // Calls `work` between polls (every 10 ms) until the runner asks for the verification.
  template <class Work>
  void wait_for_verify(Work work) {
    while (!verify_asked()) {
      work();
      beat();
    }
  }
  void wait_for_verify() {
    wait_for_verify([] {});
  }

  // Polls `condition` until it holds; gives up after `seconds` of running time.
  template <class Condition>
  bool wait_until(Condition condition, double seconds = 5) {
    const double end = now() + seconds - lost_;
    while (!condition()) {
      if (now() > end + lost_) return false;
      beat();
    }
    return true;
  }

  // Records a failure unless `good`. The first sentence becomes the result, all go to the log.
  __attribute__((format(printf, 3, 4))) bool check(bool good, const char* sentence, ...);

  // The first sentence so far; empty when there is none.
  std::string failure();

  // Writes the result; what main() returns.
  int finish();

  // For workloads whose main thread handles signals: its waits between polls may be interrupted.
  void expect_interrupts() { interrupts_expected_ = true; }

  // Whether CRIU or its images take part (WORKLOAD_CRIU in the environment): what these have no room for is left out,
  // and the sleeps of the main thread may end early.
  bool beside_criu() const { return beside_criu_; }

  // Ends the program: what it checks does not exist on this machine.
  [[noreturn]] void skip(const char* reason) const;

  bool asked(const char* name) const;
  void tell(const char* name, const std::string& text) const;
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  // Whether the process was dumped and restored, or moved; a mere stop does not count.
  bool moved() const { return mode_ != "native" && mode_ != "stopped" && mode_ != "refuse"; }

  double lost() const { return lost_; }
  static double now();

 private:
  bool verify_asked();
  void beat();

  const std::string directory_;
  const pid_t pid_;
  const pid_t session_;
  const pid_t group_;
  std::string mode_ = "native";
  bool interrupts_expected_ = false;
  const bool beside_criu_ = std::getenv("WORKLOAD_CRIU") != nullptr;

  std::uint64_t heartbeat_ = 0;
  std::uint64_t heartbeat_inverted_ = ~std::uint64_t{0};
  double last_beat_ = now();
  double lost_ = 0;

  std::mutex mutex_;
  std::string failure_;
  int failures_ = 0;
};

// For the set-up: ends the program with a sentence in the log when a call fails.
[[noreturn]] void give_up(const char* what);
template <class T>
T must(T result, const char* what) {
  if (result == (T)-1) give_up(what);
  return result;
}

// Deterministic content.
std::uint64_t mix(std::uint64_t value);
void fill(void* at, std::size_t bytes, std::uint64_t seed);
bool holds(const void* at, std::size_t bytes, std::uint64_t seed);
bool all_zero(const void* at, std::size_t bytes);

// Private anonymous memory.
char* map(std::size_t bytes, int extra_flags = 0);

void pause_for(double seconds);

// Whether something can be read from `fd` soon; a workload that has lost what it should read must not hang.
bool readable(int fd);
void write_file(const std::string& path, const std::string& text);
std::string read_file(const std::string& path);  // empty when there is none

}  // namespace godwit::workloads
