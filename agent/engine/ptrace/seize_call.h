// PTRACE_SEIZE beside an exec.
//
// It waits for the cred_guard_mutex of the process, which an exec has. An exec that has killed all other threads waits,
// with the mutex, until their tracer has taken notice of the end of each. So the tracer, which waits for the mutex,
// would wait for ever (as of 6.18); its call is interruptible and begins again by itself, so it is interrupted every 10
// ms by a signal, SIGALRM, whose handler takes notice.
#pragma once

#include <optional>
#include <vector>

#include <csignal>
#include <ctime>

#include <sys/types.h>

namespace godwit::engine {

// For the threads of one process. One at a time in a thread, and by one thread of this process at a time.
class SeizeCall {
 public:
  explicit SeizeCall(pid_t pid) : pid_(pid) {}
  ~SeizeCall();
  SeizeCall(const SeizeCall&) = delete;
  SeizeCall& operator=(const SeizeCall&) = delete;

  // 0 or an errno.
  int operator()(pid_t tid, unsigned long options);
  // Of the end of somebody who was seized.
  bool took_notice() const { return took_notice_; }

 private:
  void set_alarm();

  pid_t pid_;
  std::vector<pid_t> others_;  // seized, without the first thread, whose end an exec does not wait for
  bool took_notice_ = false;
  std::optional<timer_t> alarm_;
  struct sigaction before_{};
};

}  // namespace godwit::engine
