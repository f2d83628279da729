#include "agent/engine/ptrace/remote_syscalls.h"

#include "agent/engine/ptrace/tracing.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/log.h"

#include <csignal>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

namespace godwit::engine {
namespace {

template <class T>
void copy_in(pid_t pid, RemoteAddr at, std::span<const T> from) {
  const iovec local{const_cast<T*>(from.data()), from.size_bytes()};
  const iovec remote{reinterpret_cast<void*>(raw(at)), from.size_bytes()};
  check(::process_vm_writev(pid, &local, 1, &remote, 1, 0), "write to process {} at {:#x}", pid, raw(at));
}

template <class T>
void copy_out(pid_t pid, RemoteAddr at, std::span<T> into) {
  const iovec local{into.data(), into.size_bytes()};
  const iovec remote{reinterpret_cast<void*>(raw(at)), into.size_bytes()};
  check(::process_vm_readv(pid, &local, 1, &remote, 1, 0), "read from process {} at {:#x}", pid, raw(at));
}

// Or is on its way out: no tracee in a stop.
bool runs(pid_t tid) {
  std::uint64_t mask = 0;
  return ::ptrace(static_cast<__ptrace_request>(PTRACE_GETSIGMASK), tid, sizeof mask, &mask) != 0 && errno == ESRCH;
}

}  // namespace

RemoteAddr find_syscall_instruction(pid_t pid, RemoteAddr start, RemoteAddr end) {
  std::string code(raw(end) - raw(start), '\0');
  copy_out(pid, start, std::span(code));
  const std::size_t at = code.find("\x0f\x05");
  if (at == std::string::npos) fail(Errc::unsupported, "the vdso of process {} has no syscall instruction", pid);
  return start + at;
}

Error disturbed_by_stop(pid_t pid) {
  return {Errc::busy, fmt::format("somebody else sent SIGSTOP to process {}, which was held", pid)};
}

RemoteSyscalls::RemoteSyscalls(pid_t pid, pid_t tid, RemoteAddr syscall_instruction)
    : pid_(pid), tid_(tid), syscall_instruction_(syscall_instruction), saved_(get_regs(tid)), end_signal_(SIGSTOP) {}

RemoteSyscalls::~RemoteSyscalls() {
  if (ended_) return;
  try {
    end();
  } catch (const std::exception& e) {
    log::warn("remote.registers_not_restored", {{"tid", tid_}, {"error", e.what()}});
  }
}

// Where signals are handled, as in a trap stop or at a batch's SIGSTOP, the kernel itself restarts the call that the
// stop interrupted: a sleep sees no EINTR. A syscall stop is not there.
void RemoteSyscalls::end() {
  ended_ = true;
  const bool given_up = runs(tid_);  // in a call that took too long
  if (given_up) {
    trace(PTRACE_INTERRUPT, tid_, 0, 0, "interrupt");
    wait_stop(tid_);
  }
  if (given_up || in_syscall_stop_) to_trap_stop(tid_, 0);
  set_regs(tid_, saved_);
}

// A SIGCONT or a stop signal from elsewhere shows as one more trap stop: go on over it.
Stop RemoteSyscalls::resume(int request) {
  for (;;) {
    trace(request, tid_, 0, 0, "resume");
    const Stop stop = wait_stop(tid_);
    if (stop.gone()) fail(Errc::target_gone, "thread {} ended", tid_);
    if (!stop.trap_stop()) return stop;
  }
}

// A signal that is not the end of a batch.
void RemoteSyscalls::note(const Stop& stop) {
  if (!stop.signal_stop(SIGSTOP)) return;
  if (!expected_stop_ || !std::exchange(*expected_stop_, false)) disturbed_ = true;
}

long RemoteSyscalls::call_raw(long nr, std::array<std::uint64_t, 6> args) {
  Regs regs = saved_;
  regs.rip = raw(syscall_instruction_);
  regs.rax = static_cast<unsigned long long>(nr);
  regs.orig_rax = static_cast<unsigned long long>(-1);  // no restart of the interrupted call on top of ours
  regs.rdi = args[0];
  regs.rsi = args[1];
  regs.rdx = args[2];
  regs.r10 = args[3];
  regs.r8 = args[4];
  regs.r9 = args[5];
  regs.r13 = SIGSTOP;  // what may lie behind the instruction is the end of the stub
  set_regs(tid_, regs);
  in_syscall_stop_ = true;
  for (int side = 0; side < 2; side++) {  // entry, exit
    Stop stop = resume(PTRACE_SYSCALL);
    for (; stop.signal_stop(SIGSTOP) || stop.signal_stop(end_signal_); stop = resume(PTRACE_SYSCALL)) note(stop);
    if (!stop.syscall_stop())
      fail(Errc::target_gone, "thread {} stopped with status {:#x} instead of running system call {}", tid_, stop.raw(),
           nr);
  }
  return static_cast<long>(get_regs(tid_).rax);
}

long RemoteSyscalls::checked(std::string_view what, long result) { return check_raw(result, "{} in the target", what); }

void RemoteSyscalls::start(const Batch& batch) {
  batch.write_to(pid_);
  Regs regs = saved_;
  regs.rip = raw(batch.scratch()) + Stub::loop_offset();
  regs.r15 = raw(batch.scratch()) + ScratchLayout::table;
  regs.r14 = batch.size();
  regs.r13 = static_cast<unsigned long long>(end_signal_);
  regs.orig_rax = static_cast<unsigned long long>(-1);
  set_regs(tid_, regs);
  in_syscall_stop_ = false;
  trace(PTRACE_CONT, tid_, 0, 0, "continue");
}

// Not a signal from elsewhere, while there are calls left or before the stub has sent its own.
bool RemoteSyscalls::is_end(const Stop& stop) const {
  const Regs regs = get_regs(tid_);
  return regs.r14 == 0 && stop.signal_stop(static_cast<int>(regs.r13));
}

bool RemoteSyscalls::finish_disturbed(Batch& batch) {
  Stop stop = wait_stop(tid_);
  if (stop.trap_stop()) stop = resume(PTRACE_CONT);
  while ((stop.signal_stop(SIGSTOP) || stop.signal_stop(end_signal_)) && !is_end(stop)) {
    note(stop);
    stop = resume(PTRACE_CONT);
  }
  if (!stop.signal_stop(SIGSTOP) && !stop.signal_stop(end_signal_))
    fail(Errc::target_gone, "thread {} stopped with status {:#x} in a batch of {} calls", tid_, stop.raw(),
         batch.size());
  collect(batch);
  return std::exchange(disturbed_, false);
}

void RemoteSyscalls::finish(Batch& batch) {
  if (finish_disturbed(batch)) throw disturbed_by_stop(pid_);
}

void RemoteSyscalls::collect(Batch& batch) {
  batch.read_back(pid_);
  batch.check_results();
}

void RemoteSyscalls::run(Batch& batch) {
  if (run_disturbed(batch)) throw disturbed_by_stop(pid_);
}

bool RemoteSyscalls::run_disturbed(Batch& batch) {
  if (batch.empty()) return false;
  start(batch);
  return finish_disturbed(batch);
}

Scratch::Scratch(RemoteSyscalls& remote, RemoteAddr address) : remote_(remote), address_(address) {
  constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  const long mapped =
      remote.attempt(SYS_mmap, address, ScratchLayout::size, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
  if (mapped == static_cast<long>(raw(address))) {
    copy_in(remote.pid(), address_, Stub::code());
    return;
  }
  // A process that denies itself memory both writable and executable (PR_SET_MDWE, 6.3+): the stub in a page of its
  // own, which the engine writes as a debugger would.
  if (mapped != -EACCES) remote.checked("map scratch memory", mapped);
  remote.call("map scratch memory", SYS_mmap, address, ScratchLayout::size, PROT_READ | PROT_WRITE, flags, -1, 0);
  try {
    remote.call("map the stub", SYS_mmap, address, ScratchLayout::table, PROT_READ | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    UniqueFd memory = open_file(fmt::format("/proc/{}/mem", remote.pid()), O_RDWR);
    pwrite_all(memory.get(), Stub::code(), static_cast<off_t>(raw(address)));
  } catch (...) {
    remote.attempt(SYS_munmap, address, ScratchLayout::size);
    throw;
  }
}

Scratch::~Scratch() {
  if (!mapped_) return;
  try {
    remote_.call("unmap scratch memory", SYS_munmap, address_, ScratchLayout::size);
  } catch (const std::exception& e) {
    log::warn("remote.scratch_left", {{"pid", remote_.pid()}, {"error", e.what()}});
  }
}

}  // namespace godwit::engine
