// The borrow journal: what the engine has changed in a target, written down before the change, in a memfd that the
// agent made and keeps. When the engine dies, a fresh one reads it and puts everything back (recover.h).
//
// Plain shared memory: what was written before a SIGKILL is there after it. One writer. The memory only grows. A
// journal that is torn cannot happen: a thread's record is complete before the count includes it.
#pragma once

#include "agent/engine/ptrace/stop.h"
#include "common/base/fd.h"
#include "common/base/units.h"

#include <array>
#include <cstdint>
#include <span>

#include <sched.h>

namespace godwit::engine {

enum class HoldPhase : std::uint32_t {
  idle = 1,   // nothing is borrowed
  stopping,   // SIGSTOP may have been sent; nothing else
  held,       // the listed threads may have borrowed registers, masks and affinity
  releasing,  // everything is put back; SIGCONT may not have been sent
};

struct ThreadRecord {
  pid_t tid = 0;  // host
  std::uint32_t pinned = 0;
  Regs regs{};
  std::uint64_t sigmask = 0;
  std::array<std::byte, 128> affinity{};
};

// A pending signal that holding the process would destroy (kept_signals.h).
struct KeptSignal {
  pid_t tid = 0;  // host; 0: in the queue of the process
  Siginfo info{};
};

class Journal {
 public:
  // `memory` is a memfd, empty or left by another engine. Empty UniqueFd: makes one of its own (work by hand).
  explicit Journal(UniqueFd memory);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void begin(pid_t pid, std::uint64_t start_time, bool was_stopped);
  void held(std::uint64_t syscall_instruction);
  ThreadRecord& add(const ThreadRecord& record);
  // Once per queue and number: a standard signal is pending once. Errc::unsupported when there is no more room.
  void keep(const KeptSignal& signal);
  void scratch(RemoteAddr at);  // before it is mapped
  void scratch_gone();
  void releasing();
  void end();

  HoldPhase phase() const { return header().phase; }
  pid_t pid() const { return header().pid; }
  std::uint64_t start_time() const { return header().start_time; }
  bool was_stopped() const { return header().was_stopped != 0; }
  std::uint64_t syscall_instruction() const { return header().syscall_instruction; }
  RemoteAddr scratch_address() const { return RemoteAddr{header().scratch}; }  // 0: none
  std::span<ThreadRecord> threads();
  std::span<const KeptSignal> kept() const;

 private:
  struct Header {
    std::uint64_t magic = 0;
    HoldPhase phase{};
    pid_t pid = 0;
    std::uint64_t start_time = 0;
    std::uint64_t syscall_instruction = 0;
    std::uint64_t scratch = 0;
    std::uint32_t was_stopped = 0;
    std::uint32_t count = 0;
    std::uint32_t kept = 0;
  };
  Header& header() const { return *static_cast<Header*>(memory_); }
  ThreadRecord* records() const;
  void map(std::size_t size);

  UniqueFd fd_;
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace godwit::engine
