// /proc/PID/timers: the POSIX timers of a process, in the kernel's order. What is left on them is not here:
// only timer_gettime in the process tells. Errors: Errc::internal.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::proc {

enum class TimerNotify { signal = 1, none, thread };

struct PosixTimer {
  std::int32_t id = 0;
  std::int32_t signal = 0;
  std::uint64_t sigval = 0;  // sival_ptr
  TimerNotify notify = TimerNotify::signal;
  bool to_thread = false;  // SIGEV_THREAD_ID: `target` is a TID, else a PID
  pid_t target = 0;        // in the PID namespace of the /proc mount
  std::int32_t clock = 0;  // CLOCK_*; negative for CPU clocks of one process or thread

  int sigev_notify() const;  // SIGEV_* as timer_create takes it
  bool operator==(const PosixTimer&) const = default;
};

std::vector<PosixTimer> parse_timers(std::string_view text);

}  // namespace godwit::proc
