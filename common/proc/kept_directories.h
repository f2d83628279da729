// Opens /proc/PID once for all who read of the same process: opening and closing it takes 2.9 us, copying and closing a
// descriptor 0.7, and a dozen parts of the engine look at each frozen process.
//
// While one lives, the Readers of processes (not of threads) that this thread makes share directories. They belong to
// the process that had the PID first: of one that has it later they say target_gone. So it lives while the processes
// that are read cannot be replaced, or are all the same to the caller when they are.
#pragma once

#include "common/base/fd.h"

#include <map>
#include <string>

#include <sys/types.h>

namespace godwit::proc {

class KeptDirectories {
 public:
  KeptDirectories();
  ~KeptDirectories();  // those of before are back
  KeptDirectories(const KeptDirectories&) = delete;
  KeptDirectories& operator=(const KeptDirectories&) = delete;

 private:
  friend UniqueFd open_process(pid_t pid, const std::string& path);

  std::map<pid_t, UniqueFd> directories_;
  KeptDirectories* before_;
};

// /proc/PID or /proc/PID/task/TID. Errc::target_gone: there is none.
UniqueFd open_task(const std::string& path);
// /proc/PID, `path`, for one Reader.
UniqueFd open_process(pid_t pid, const std::string& path);

}  // namespace godwit::proc
