// What the restore knows about sleeping calls and the next dump of the same process cannot find out: after a restore
// the kernel shows restart_syscall where the call was, and keeps its deadline to itself.
//
// One small file per process (run_directory.h), which is never taken for another process's. Notes are a
// help, not a need: without them such a call is taken to begin anew. Nothing here throws.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

struct CallNote {
  pid_t tid = 0;  // host
  long number = 0;
  std::uint64_t rip = 0, rsp = 0;  // of the thread: tell whether it is still the same call
  std::uint64_t begun_ns = 0;      // CLOCK_MONOTONIC of this host
};

void keep_notes(pid_t pid, std::uint64_t start_time, const std::vector<CallNote>& notes) noexcept;
std::vector<CallNote> read_notes(pid_t pid, std::uint64_t start_time) noexcept;

// A file of them; it ends with the first line that is no note.
std::vector<CallNote> parse_notes(const std::string& text);

}  // namespace godwit::engine
