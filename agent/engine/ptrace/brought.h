// Threads that are brought to the engine's CPU before they are seized. To seize a thread that has stopped the kernel
// wakes it up and waits for it; on another CPU, which as a rule has gone to sleep, that takes 60 us instead of 10.
#pragma once

#include "agent/engine/ptrace/journal.h"
#include "agent/engine/ptrace/pin.h"

#include <array>
#include <cstddef>
#include <map>
#include <optional>

#include <sys/types.h>

namespace godwit::engine {

class BroughtThreads {
 public:
  struct Thread {
    Journal::Process::Place place = 0;  // of its record
    std::array<std::byte, 128> affinity{};
  };

  BroughtThreads(pid_t pid, Journal::Process& journal, const Pin& pin) : pid_(pid), journal_(journal), pin_(pin) {}

  // `tid` has stopped, or will before it runs its program: else what it makes would have its affinity.
  void bring(pid_t tid);
  // Back to where it was, unless it has gone elsewhere by itself. Where it is no more, an exec may have given it the
  // TID of the first thread: when that is brought once more it is this one.
  void take_back(pid_t tid) noexcept;
  void take_all_back() noexcept;
  const Thread* find(pid_t tid) const;  // nullptr: it was not brought

 private:
  bool moved_back(pid_t tid, const Thread& thread) const noexcept;

  pid_t pid_;
  Journal::Process& journal_;
  const Pin& pin_;
  std::map<pid_t, Thread> threads_;
  std::optional<Thread> lost_;
};

}  // namespace godwit::engine
