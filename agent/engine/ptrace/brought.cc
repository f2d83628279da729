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

// Unless it has ended: the TID may be another's by now.
void BroughtThreads::take_back(pid_t tid) noexcept {
  const auto at = threads_.find(tid);
  if (at == threads_.end()) return;
  std::array<char, 64> task;
  *fmt::format_to_n(task.data(), task.size() - 1, "/proc/{}/task/{}", pid_, tid).out = '\0';
  std::array<std::byte, 128> now{};
  if (::access(task.data(), F_OK) == 0 && ::syscall(SYS_sched_getaffinity, tid, now.size(), now.data()) >= 0 &&
      pin_.is_place(now))
    ::syscall(SYS_sched_setaffinity, tid, at->second.affinity.size(), at->second.affinity.data());
  threads_.erase(at);
}

void BroughtThreads::take_all_back() noexcept {
  while (!threads_.empty()) take_back(threads_.begin()->first);
}

const BroughtThreads::Thread* BroughtThreads::find(pid_t tid) const {
  const auto at = threads_.find(tid);
  return at == threads_.end() ? nullptr : &at->second;
}

}  // namespace godwit::engine
