// System calls that the stop has interrupted, and how they go on without the process noticing.
//
// For most of them the kernel does it: it restarts the call when the thread runs again. Three kinds need help:
//  - calls with a relative timeout (nanosleep, futex, poll) leave a restart block in the kernel, which a restore must
//    make anew with what is left of the timeout; how long the call had slept is only known before the stop
//    (se.exec_start of /proc/PID/task/TID/sched), and a second stop of such a call sees restart_syscall in its place;
//  - epoll_wait, sigtimedwait and sockets with timeouts return EINTR after any stop, even without a handler
//  (signal(7)):
//    the thread is moved back to the call, unless a signal is there that shall interrupt it;
//  - io_pgetevents is restarted, but with all of its timeout: it is moved back, too, with what is left.
#pragma once

#include "agent/engine/ptrace/stop.h"
#include "common/proc/maps.h"

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace godwit::engine {

struct InterruptedCall {
  long number = -1;            // -1: none that needs help at the restore
  std::uint64_t slept_ns = 0;  // of its timeout
};

class InterruptedCalls {
 public:
  // Before the stop: how long every thread has been asleep.
  void look(pid_t pid);
  // After it: corrects `regs` where the thread is to begin its call again, and says what a restore must know.
  InterruptedCall settle(pid_t pid, pid_t tid, std::uint64_t stopped_at_ns, std::uint64_t sigmask,
                         const std::vector<proc::Vma>& maps, Regs& regs);

 private:
  struct Asleep {
    std::uint64_t since_ns = 0;  // CLOCK_MONOTONIC
    std::uint64_t switches = 0;
  };
  struct Seen {  // a call that an earlier stop has turned into restart_syscall
    long number = 0;
    std::uint64_t rip = 0, rsp = 0;
    std::uint64_t begun_ns = 0;
  };
  bool read_notes_ = false;
  std::map<pid_t, Asleep> asleep_;
  std::map<pid_t, Seen> seen_;
};

}  // namespace godwit::engine
