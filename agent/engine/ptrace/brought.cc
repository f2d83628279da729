#include "agent/engine/ptrace/brought.h"

#include <fmt/format.h>

#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {

void BroughtThreads::bring(pid_t tid) {
  ThreadRecord record{.tid = tid, .pinned = 1};
  if (::syscall(SYS_sched_getaffinity, tid, record.affinity.size(), record.affinity.data()) < 0)
    return;  // it has ended
  threads_[tid] = {.place = journal_.add(record), .affinity = record.affinity};
  pin_.bring(tid);
}

// Those that have not ended meanwhile: the TID may be another's by now.
void BroughtThreads::take_back() noexcept {
  for (const auto& [tid, thread] : threads_) {
    std::array<char, 64> task;
    *fmt::format_to_n(task.data(), task.size() - 1, "/proc/{}/task/{}", pid_, tid).out = '\0';
    if (::access(task.data(), F_OK) == 0)
      ::syscall(SYS_sched_setaffinity, tid, thread.affinity.size(), thread.affinity.data());
  }
  threads_.clear();
}

const BroughtThreads::Thread* BroughtThreads::find(pid_t tid) const {
  const auto at = threads_.find(tid);
  return at == threads_.end() ? nullptr : &at->second;
}

}  // namespace godwit::engine
