// The borrow journal: what the engine has changed in its targets, written down before the change, in a memfd that the
// agent made and keeps. When the engine dies, a fresh one reads it and puts everything back (recover.h).
//
// Plain shared memory: what was written before a SIGKILL is there after it. One writer. The memory only grows. A
// journal that is torn cannot happen: a record is complete before the count includes it.
#pragma once

#include "agent/engine/ptrace/stop.h"
#include "common/base/fd.h"
#include "common/base/units.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <linux/aio_abi.h>
#include <sched.h>

namespace godwit::engine {

enum class HoldPhase : std::uint32_t {
  idle = 1,   // nothing is borrowed
  stopping,   // SIGSTOP may have been sent, and listed threads may have been moved to another CPU
  held,       // what is listed of the threads may have been changed
  releasing,  // everything is put back; SIGCONT may not have been sent
};

struct ThreadRecord {
  pid_t tid = 0;               // host
  std::uint32_t pinned = 0;    // it has been moved, and `affinity` is what it had
  std::uint64_t borrowed = 0;  // `regs` and `sigmask` are what it had
  std::array<std::byte, 128> affinity{};
  Regs regs{};
  std::uint64_t sigmask = 0;
};

// A pending signal that holding the process would destroy (kept_signals.h).
struct KeptSignal {
  pid_t tid = 0;  // host; 0: in the queue of the process
  Siginfo info{};
};

// How far a look at an AIO ring has come (memory/aio_probe.h).
struct AioProgress {
  std::uint32_t seen = 0;               // the ring's tail
  std::uint64_t batch = 0;              // of calls, which comes next
  std::span<const io_event> unfetched;  // up to there; what was noted before comes first
};

struct AioLook {
  int eventfd = 0;         // its number, if it is there
  std::uint64_t ring = 0;  // 0: none is being looked at
  std::uint32_t capacity = 0, head = 0;
  std::uint32_t seen = 0;
  std::uint64_t batch = 0;
  std::vector<io_event> unfetched;
};

class Journal {
 public:
  // `memory` is a memfd, empty or left by another engine. Empty UniqueFd: makes one of its own (work by hand).
  explicit Journal(UniqueFd memory);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // What is borrowed from one process. A handle: it is valid as long as the journal, until end().
  class Process {
   public:
    // Somebody has continued it before all was seized: no thread is listed any more. Of the last process that began.
    void begin_again(bool was_stopped);
    void held(std::uint64_t syscall_instruction);
    using Place = std::uint32_t;  // of a record
    Place add(const ThreadRecord& record);
    // One that was added when it had only been moved.
    void borrow(Place place, const Regs& regs, std::uint64_t sigmask, const std::array<std::byte, 128>& affinity);
    // Once per queue and number: a standard signal is pending once. Errc::unsupported when there is no more room.
    void keep(const KeptSignal& signal);
    void scratch(RemoteAddr at);  // before it is mapped
    void scratch_gone() { scratch(RemoteAddr{0}); }
    // One process at a time, and one ring: before an eventfd is there, and before anything is taken out of the ring.
    void aio_eventfd(int number);
    void aio_begin(std::uint64_t ring, std::uint32_t capacity, std::uint32_t head, const AioProgress& progress);
    void aio_progress(const AioProgress& progress);
    void aio_end();
    void aio_gone();
    void releasing();
    void end();

    HoldPhase phase() const;
    pid_t pid() const;
    std::uint64_t start_time() const;
    bool was_stopped() const;
    std::uint64_t syscall_instruction() const;
    RemoteAddr scratch_address() const;  // 0: none
    std::vector<ThreadRecord> threads() const;
    std::vector<KeptSignal> kept() const;
    std::optional<AioLook> aio() const;

   private:
    friend class Journal;
    Process(Journal& journal, std::uint32_t index) : journal_(&journal), index_(index) {}
    Journal* journal_;
    std::uint32_t index_;
  };

  Process begin(pid_t pid, std::uint64_t start_time, bool was_stopped);
  bool idle() const { return borrowed().empty(); }  // nothing is borrowed from anybody
  std::vector<Process> borrowed() const;            // those that are not idle, in the order in which they began

 private:
  struct Header {
    std::uint64_t magic = 0;
    std::uint32_t processes = 0, threads = 0, kept = 0;
  };
  struct ProcessSlot {
    HoldPhase phase{};
    pid_t pid = 0;
    std::uint64_t start_time = 0;
    std::uint64_t syscall_instruction = 0;
    std::uint64_t scratch = 0;
    std::uint32_t was_stopped = 0;
  };
  struct ThreadSlot {
    std::uint32_t process = 0;
    ThreadRecord record;
  };
  struct KeptSlot {
    std::uint32_t process = 0;
    KeptSignal signal;
  };
  struct AioSlot {
    std::uint32_t process = 0, open = 0;
    std::uint32_t current = 0;  // of the two
    std::int32_t eventfd = 0;
    std::uint64_t ring = 0;
    std::uint32_t capacity = 0, head = 0;
    struct {
      std::uint32_t seen = 0, unfetched = 0;
      std::uint64_t batch = 0;
    } progress[2];
  };
  static constexpr std::size_t most_processes = 4096, most_kept = 1024;
  static constexpr std::size_t most_unfetched = 16 * 1024;  // what a look begins with, and what completes meanwhile
  static constexpr std::size_t first_process = 64;
  static constexpr std::size_t first_kept = first_process + most_processes * sizeof(ProcessSlot);
  static constexpr std::size_t first_aio = first_kept + most_kept * sizeof(KeptSlot);
  static constexpr std::size_t first_unfetched = first_aio + sizeof(AioSlot);
  static constexpr std::size_t first_thread = first_unfetched + most_unfetched * sizeof(io_event);

  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(memory_) + offset);
  }
  Header& header() const { return *at<Header>(0); }
  ProcessSlot* processes() const { return at<ProcessSlot>(first_process); }
  KeptSlot* kept() const { return at<KeptSlot>(first_kept); }
  AioSlot& aio() const { return *at<AioSlot>(first_aio); }
  io_event* unfetched() const { return at<io_event>(first_unfetched); }
  ThreadSlot* threads() const { return at<ThreadSlot>(first_thread); }
  void map(std::size_t size);
  bool sound() const;

  UniqueFd fd_;
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace godwit::engine
