// PTRACE_SEIZE beside an exec.
//
// It waits for the cred_guard_mutex of the process, which an exec has. An exec that has killed all other threads waits,
// with the mutex, until their tracer has taken notice of the end of each. So the tracer, which waits for the mutex,
// would wait for ever (as of 6.18). The call is interruptible and begins again by itself: it is interrupted every 10 ms
// by a signal, SIGALRM, whose handler takes notice, and ends it when it has taken too long.
#pragma once

#include "agent/engine/ptrace/stop_limit.h"

#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// For the threads of one process. One at a time in this process. The first one sets a handler for SIGALRM, for good.
class SeizeCall {
 public:
  SeizeCall(pid_t pid, const StopLimit& limit) : pid_(pid), limit_(limit) {}
  ~SeizeCall();
  SeizeCall(const SeizeCall&) = delete;
  SeizeCall& operator=(const SeizeCall&) = delete;

  // 0 or an errno; EINTR: the limit is over, and it waits for an exec.
  int operator()(pid_t tid, unsigned long options);
  // Of the end of somebody who was seized.
  bool took_notice() const { return took_notice_; }

  // For the handler. Returns whether to go on waiting.
  bool look() noexcept;

 private:
  pid_t pid_;
  const StopLimit& limit_;
  std::vector<pid_t> others_;  // seized, without the first thread, whose end an exec does not wait for
  bool took_notice_ = false;
  bool alarm_set_ = false;
};

}  // namespace godwit::engine
