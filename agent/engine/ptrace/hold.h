// Holds a process: all its threads stopped, traced by this engine and ready for injected calls, in such a way that the
// death of the engine at any instruction leaves it stopped and whole.
//
// SIGSTOP's group stop comes first: a thread whose tracer dies goes back into it, wherever its registers point. When it
// has begun every thread is seized. What is borrowed (registers, signal mask, affinity) is in the journal before it is
// changed.
//
// What others can see: the parent may get SIGCHLD and see the stop and the continuation by waitpid(WUNTRACED |
// WCONTINUED). No handler of the process runs: the SIGCONT that ends the stop is swallowed. What was stopped stays so.
//
// One thread; the constructor throws when the process cannot be held (Errc::busy: traced by somebody else,
// Errc::timed_out: a thread does not stop, a vfork parent say), having let go of it again.
#pragma once

#include "agent/engine/ptrace/brought.h"
#include "agent/engine/ptrace/cgroup.h"
#include "agent/engine/ptrace/group_stop.h"
#include "agent/engine/ptrace/interrupted_call.h"
#include "agent/engine/ptrace/journal.h"
#include "agent/engine/ptrace/pin.h"
#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/proc/maps.h"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

struct HeldThread {
  pid_t tid = 0;  // host
  Regs regs{};    // what it goes on with: outside of any rseq critical section
  std::uint64_t sigmask = 0;
  std::array<std::byte, 128> affinity{};
  InterruptedCall interrupted{};
};

struct HoldOptions {
  std::chrono::milliseconds limit = std::chrono::seconds(2);  // for everything to stop
  pid_t still = 0;                                            // of a tree: who stands still meanwhile (still_parent.h)
  bool pin = true;  // the engine and the target to one CPU: a ptrace stop across CPUs costs ten times as much
};

class Hold {
 public:
  // `calls` remembers what interrupted calls were, from one hold of this process to the next.
  Hold(pid_t pid, Journal& journal, InterruptedCalls& calls, const HoldOptions& options = {});
  ~Hold();  // releases, if nothing else has
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  pid_t pid() const { return pid_; }
  Journal::Process& journal() { return *journal_; }
  std::uint64_t start_time() const { return start_time_; }  // of /proc/PID/stat
  std::vector<pid_t> tids() const;
  bool was_stopped() const { return was_stopped_; }
  int stop_signal() const { return stop_signal_; }                     // which one has stopped it then
  std::uint64_t stopped_at_ns() const { return stopped_at_; }          // CLOCK_MONOTONIC when the stop was asked for
  const std::vector<HeldThread>& threads() const { return threads_; }  // the leader first
  // Of SIGCONT: they were pending, and the stop has taken them out of their queues.
  std::vector<KeptSignal> kept_signals() const { return journal_->kept(); }
  // Children that are held, too, by the PIDs that this process knows them by: a SIGCHLD that says that one was stopped
  // or continued is nobody's business, and is dropped at the release. Not when a child has ended since (it is none of
  // the `zombies`, by host PID): the kernel queues one SIGCHLD, which then stands for that, too.
  void hide_stops_of(std::set<pid_t> children, std::set<pid_t> zombies);
  bool caused_by_us(const Siginfo& info) const;
  const std::vector<proc::Vma>& maps() const { return maps_; }

  // Scratch memory for injected calls, from the first use to the release.
  RemoteSyscalls& leader() { return remote(pid_); }
  // A thread stays borrowed as long as the scratch memory is there, in which its last batch has left it.
  RemoteSyscalls& remote(pid_t tid);
  RemoteAddr scratch();
  // Where it lies now, for whoever reads the mappings meanwhile; 0 to 0: nowhere.
  std::pair<std::uint64_t, std::uint64_t> scratch_range() const;
  void drop_scratch();
  // Others use its memory, too, and have scratch memory of their own there. When all of them are held.
  void share_memory();

  // Everything back, and it runs on (or stays stopped, when it was, or is a zombie, when somebody has killed it).
  void release();
  // The same for a process that was stopped: it runs on, and no handler of SIGCONT runs.
  void let_run();
  // Everything back, and it stays stopped as by SIGSTOP: no engine is needed, and SIGCONT lets it run on.
  void leave_stopped();
  // In two halves, so that all processes of a tree are frozen together (held_tree.h). Everything back, and no SIGCONT
  // of the stop is left; still traced.
  void make_ready_to_freeze();
  // The cgroup has been asked to freeze: from then on its freezer holds it and no engine is needed.
  void leave_frozen();
  // It has been killed.
  void gone();

 private:
  void stop();
  bool seize(const StopLimit& limit);
  void borrow();
  int end_of_batches() const;
  void end_calls();
  void put_back();
  void swallow_sigcont();
  bool a_child_has_ended() const;
  void drop_child_stop();
  void detach();
  bool bury();
  void abandon() noexcept;

  pid_t pid_;
  std::uint64_t start_time_ = 0;
  Journal& whole_journal_;
  std::optional<Journal::Process> journal_;
  InterruptedCalls& calls_;
  HoldOptions options_;
  bool was_stopped_ = false;
  int stop_signal_ = 0;
  std::uint64_t stopped_at_ = 0;
  std::vector<HeldThread> threads_;
  std::vector<proc::Vma> maps_;
  bool shares_memory_ = false;
  RemoteAddr instruction_{};
  int end_signal_ = 0;            // of batches; 0: the usual one
  bool own_stop_queued_ = false;  // a second SIGSTOP of ours, which the first batch gets
  std::map<pid_t, RemoteSyscalls> remotes_;
  std::unique_ptr<Scratch> scratch_;
  std::set<pid_t> held_children_, zombies_;
  std::optional<GroupStop> group_stop_;
  std::optional<Pin> pin_;
  std::optional<BroughtThreads> brought_;
  bool held_ = false;
};

// A free place for `size` bytes below 2^47 that no VMA of either list touches, with some room on both sides.
RemoteAddr find_hole(const std::vector<proc::Vma>& maps, std::uint64_t size);

}  // namespace godwit::engine
