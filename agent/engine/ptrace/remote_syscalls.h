// An RAII borrow of a stopped thread that runs system calls in it and puts its registers back.
//
// Preconditions, which the caller sees to (ptrace/hold.h): the thread is seized by this engine with
// PTRACE_O_TRACESYSGOOD, in a ptrace stop, all its signals are blocked (but for the one that batches end with), any
// rseq critical section has been fixed up, and what is borrowed is in the journal. One RemoteSyscalls per thread at a
// time.
//
// The vdso's own `syscall` instruction is used for single calls, so that no code is patched.
#pragma once

#include "agent/engine/ptrace/batch.h"
#include "agent/engine/ptrace/stop.h"
#include "common/base/error.h"
#include "common/base/units.h"

#include <string_view>

namespace godwit::engine {

// The address of a `syscall` instruction in the vdso mapped at [start, end) of process `pid`.
RemoteAddr find_syscall_instruction(pid_t pid, RemoteAddr vdso_start, RemoteAddr vdso_end);

// What is thrown when somebody else sent SIGSTOP to a process that is held.
Error disturbed_by_stop(pid_t pid);

class RemoteSyscalls {
 public:
  RemoteSyscalls(pid_t pid, pid_t tid, RemoteAddr syscall_instruction);
  // Puts the registers back where the kernel itself restarts the interrupted call.
  ~RemoteSyscalls();
  RemoteSyscalls(const RemoteSyscalls&) = delete;
  RemoteSyscalls& operator=(const RemoteSyscalls&) = delete;

  // One call by two syscall stops: no signal is involved. Throws on an error result.
  template <class... Args>
  long call(std::string_view what, long nr, Args... args) {
    return checked(what, call_raw(nr, {value(args)...}));
  }
  // The raw result, -errno on failure.
  template <class... Args>
  long attempt(long nr, Args... args) {
    return call_raw(nr, {value(args)...});
  }

  // Throws when `result` is an error.
  static long checked(std::string_view what, long result);

  // Runs all calls of the batch in one go; throws for the first that had to succeed and did not, and Errc::busy when
  // somebody else sent SIGSTOP meanwhile, which is gone then. All have been run even so.
  void run(Batch& batch);
  // The same for who has to go on first: returns whether somebody did.
  bool run_disturbed(Batch& batch);
  // The same in two halves, for a call that is meant to sleep.
  void start(const Batch& batch);
  void finish(Batch& batch);
  void collect(Batch& batch);  // results of a batch that has come to its end, its last stop already waited for

  // Ends the borrow with an error where the destructor would only log one: after it the thread has its registers back,
  // and is in a trap stop or at a SIGSTOP of its own, which is dropped when it goes on without a signal.
  void end();
  void forget() { ended_ = true; }  // the thread is gone
  // Batches end in this signal instead of SIGSTOP, for which the kernel goes through all threads of the process (23 us
  // at 1,000). It is one that the process ignores, and is not blocked.
  void end_batches_with(int signal) { end_signal_ = signal; }
  // A SIGSTOP of our own may wait in the queue: the first one is nobody else's. `queued` must outlive this.
  void expect_stop(bool& queued) { expected_stop_ = &queued; }
  // Single calls run from this `syscall` instruction from now on.
  void run_from(RemoteAddr syscall_instruction) { syscall_instruction_ = syscall_instruction; }

  pid_t pid() const { return pid_; }
  pid_t tid() const { return tid_; }
  const Regs& saved() const { return saved_; }
  // What is put back in the end, instead of what was found.
  void set_saved(const Regs& regs) { saved_ = regs; }

 private:
  static std::uint64_t value(RemoteAddr a) { return raw(a); }
  template <class T>
    requires std::is_integral_v<T> || std::is_enum_v<T>
  static std::uint64_t value(T v) {
    return static_cast<std::uint64_t>(v);
  }
  long call_raw(long nr, std::array<std::uint64_t, 6> args);
  Stop resume(int request);
  void note(const Stop& stop);
  bool is_end(const Stop& stop) const;
  bool finish_disturbed(Batch& batch);

  pid_t pid_, tid_;
  RemoteAddr syscall_instruction_;
  Regs saved_;
  int end_signal_;
  bool ended_ = false;
  bool in_syscall_stop_ = false;
  bool* expected_stop_ = nullptr;
  bool disturbed_ = false;  // by a SIGSTOP from elsewhere, which the end of the next batch tells
};

// A scratch mapping with the stub in it, made in the target by `remote` at `address`, which must be free, and removed
// with it. The address is chosen before, so that it can be in the journal before the mapping exists.
class Scratch {
 public:
  Scratch(RemoteSyscalls& remote, RemoteAddr address);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  RemoteAddr address() const { return address_; }
  void forget() { mapped_ = false; }  // the process is gone

 private:
  RemoteSyscalls& remote_;
  RemoteAddr address_;
  bool mapped_ = true;
};

}  // namespace godwit::engine
