// /proc/PID/stat and /proc/PID/task/TID/stat: all 52 fields, named as in proc(5).
//
// Times are in clock ticks (sysconf(_SC_CLK_TCK)). Fields that the kernel hides from a reader without
// ptrace rights are 0 or 1. Errors: Errc::internal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace godwit::proc {

struct Stat {
  pid_t pid = 0;
  std::string comm;
  char state = 0;  // R S D Z T t X I P
  pid_t ppid = 0;
  pid_t pgid = 0;
  pid_t sid = 0;
  int tty = 0;
  pid_t tpgid = 0;
  std::uint64_t flags = 0;  // PF_*
  std::uint64_t minflt = 0;
  std::uint64_t cminflt = 0;
  std::uint64_t majflt = 0;
  std::uint64_t cmajflt = 0;
  std::uint64_t utime = 0;
  std::uint64_t stime = 0;
  std::int64_t cutime = 0;
  std::int64_t cstime = 0;
  std::int64_t priority = 0;
  std::int64_t nice = 0;
  std::int64_t num_threads = 0;
  std::int64_t itrealvalue = 0;
  std::uint64_t start_time = 0;  // ticks since boot, in the reader's time namespace
  std::uint64_t vsize = 0;       // bytes
  std::int64_t rss = 0;          // pages
  std::uint64_t rsslim = 0;
  std::uint64_t start_code = 0;
  std::uint64_t end_code = 0;
  std::uint64_t start_stack = 0;
  std::uint64_t kstkesp = 0;
  std::uint64_t kstkeip = 0;
  std::uint64_t signal = 0;
  std::uint64_t blocked = 0;
  std::uint64_t sigignore = 0;
  std::uint64_t sigcatch = 0;
  std::uint64_t wchan = 0;
  std::uint64_t nswap = 0;
  std::uint64_t cnswap = 0;
  int exit_signal = 0;
  int processor = 0;  // the CPU it ran on last
  unsigned rt_priority = 0;
  unsigned policy = 0;
  std::uint64_t delayacct_blkio_ticks = 0;
  std::uint64_t guest_time = 0;
  std::int64_t cguest_time = 0;
  std::uint64_t start_data = 0;
  std::uint64_t end_data = 0;
  std::uint64_t start_brk = 0;
  std::uint64_t arg_start = 0;
  std::uint64_t arg_end = 0;
  std::uint64_t env_start = 0;
  std::uint64_t env_end = 0;
  int exit_code = 0;  // as wait(2) returns it
};

Stat parse_stat(std::string_view text);

}  // namespace godwit::proc
