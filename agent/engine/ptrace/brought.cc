#include "agent/engine/ptrace/brought.h"

#include <fmt/format.h>

#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {

void BroughtThreads::bring(pid_t tid) {
  ThreadRecord record{.tid = tid, .pinned = 1};
  if (::syscall(SYS_sched_getaffinity, tid, record.affinity.size(), record.affinity.data()) < 0)
    return;  // it has ended
  const bool is_another_now = tid == pid_ && threads_.contains(pid_);
  if (is_another_now && lost_ && pin_.is_place(record.affinity)) record.affinity = lost_->affinity;
  threads_[tid] = {.place = journal_.add(record), .affinity = record.affinity};
  pin_.bring(tid);
}

void BroughtThreads::take_back(pid_t tid) noexcept {
  const auto at = threads_.find(tid);
  if (at == threads_.end()) return;
  if (!moved_back(tid, at->second)) lost_ = at->second;
  threads_.erase(at);
}

void BroughtThreads::take_all_back() noexcept {
  for (const auto& [tid, thread] : threads_) moved_back(tid, thread);
  threads_.clear();
}

// False: it has ended; the TID may be another's by now.
bool BroughtThreads::moved_back(pid_t tid, const Thread& thread) const noexcept {
  std::array<char, 64> task;
  *fmt::format_to_n(task.data(), task.size() - 1, "/proc/{}/task/{}", pid_, tid).out = '\0';
  std::array<std::byte, 128> now{};
  if (::access(task.data(), F_OK) != 0 || ::syscall(SYS_sched_getaffinity, tid, now.size(), now.data()) < 0)
    return false;
  if (pin_.is_place(now)) ::syscall(SYS_sched_setaffinity, tid, thread.affinity.size(), thread.affinity.data());
  return true;
}

const BroughtThreads::Thread* BroughtThreads::find(pid_t tid) const {
  const auto at = threads_.find(tid);
  return at == threads_.end() ? nullptr : &at->second;
}

}  // namespace godwit::engine
