#pragma once
// A thread that sits in one blocking call while the process is moved, and knows what the call returned and when.
// The owner checks that it is still blocked after the move, lets it come back, and checks how it came back.
// Never moves or copies: keep it in a std::list. The destructor joins, so the call must have been let come back, or the
// program must end by _exit-like means.

#include "tests/workloads/workload.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <unistd.h>

namespace godwit::workloads {

class BlockedCall {
 public:
  template <class Call>
  BlockedCall(std::string name, Call call)
      : name_(std::move(name)), thread_([this, call] {
          tid_ = gettid();
          began_ = Workload::now();
          const long result = call();
          error_ = result == -1 ? errno : 0;
          ended_ = Workload::now();
          result_ = result;
          returned_ = true;
        }) {}
  BlockedCall(const BlockedCall&) = delete;
  BlockedCall& operator=(const BlockedCall&) = delete;
  // A call that did not come back (which was reported) must not hold up the result.
  ~BlockedCall() {
    if (returned_) {
      thread_.join();
    } else {
      thread_.detach();
    }
  }

  // Waits until the thread sleeps in the kernel.
  void settle() const {
    while (tid_ == 0 || (!returned_ && !sleeping())) pause_for(0.001);
  }

  bool returned() const { return returned_; }
  long result() const { return result_; }
  pid_t tid() const { return tid_; }

  void still_blocked(Workload& w) const {
    w.check(!returned_, "%s came back on its own with %ld (%s)", name_.c_str(), result_.load(),
            strerrorname_np(error_));
  }

  // The call returns `result` (an errno as a negative number) within `seconds`.
  bool comes_back(Workload& w, long result, double seconds = 5) const {
    if (!w.check(w.wait_until([this] { return returned_.load(); }, seconds), "%s did not come back", name_.c_str())) {
      return false;
    }
    const long got = error_ != 0 ? -error_ : result_.load();
    return w.check(got == result, "%s returned %ld (%s), not %ld", name_.c_str(), got, strerrorname_np(error_), result);
  }

  // ... and after `seconds` in all, no matter in how many pieces it slept.
  void took(Workload& w, double seconds) const {
    const double elapsed = ended_ - began_;
    w.check(elapsed > seconds - early && elapsed < seconds + w.lost() + late,
            "%s took %.3f s, not %.3f s (%.3f s lost)", name_.c_str(), elapsed, seconds, w.lost());
  }

 private:
  bool sleeping() const {
    const std::string stat = read_file("/proc/self/task/" + std::to_string(tid_) + "/stat");
    const auto after_name = stat.rfind(") ");
    return after_name != std::string::npos && stat[after_name + 2] == 'S';
  }

  const std::string name_;
  std::atomic<pid_t> tid_ = 0;
  std::atomic<bool> returned_ = false;
  std::atomic<long> result_ = 0;
  std::atomic<int> error_ = 0;
  std::atomic<double> began_ = 0;
  std::atomic<double> ended_ = 0;
  std::thread thread_;
};

}  // namespace godwit::workloads
