#include "agent/engine/ptrace/hold.h"

#include "agent/engine/ptrace/kept_signals.h"
#include "agent/engine/ptrace/tracing.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/proc/kept_directories.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <cstring>

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

// While the threads are being stopped, a spinning target must not keep the engine off the CPU: 3 ms (at most 22) become
// 0.07. Not permitted everywhere (a v1 cpu cgroup without real-time budget): then without.
class Hurry {
 public:
  Hurry() {
    const sched_param urgent{.sched_priority = 50};
    active_ = ::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &urgent) == 0;
  }
  ~Hurry() {
    const sched_param normal{.sched_priority = 0};
    if (active_) ::sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &normal);
  }
  Hurry(const Hurry&) = delete;
  Hurry& operator=(const Hurry&) = delete;

 private:
  bool active_ = false;
};

template <class T>
bool peek(pid_t pid, std::uint64_t at, T& into) {
  const iovec local{&into, sizeof into};
  const iovec remote{reinterpret_cast<void*>(at), sizeof into};
  return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(sizeof into);
}

struct RseqCriticalSection {
  std::uint32_t version, flags;
  std::uint64_t start, length, abort;
};
constexpr std::uint64_t rseq_cs_offset = 8;  // of the pointer within struct rseq

// A thread whose system calls are signals of its own (PR_SET_SYSCALL_USER_DISPATCH, 5.11+): an injected call would be
// one, too. 6.4+ can tell.
void refuse_dispatch(pid_t tid) {
  constexpr int get_config = 0x4211;  // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
  struct {
    std::uint64_t mode = 0, selector = 0, offset = 0, length = 0;
  } config;
  if (::ptrace(static_cast<__ptrace_request>(get_config), tid, sizeof config, &config) == 0 && config.mode)
    throw Error(Errc::refused, fmt::format("thread {}: syscall user dispatch is not carried", tid),
                "emulators that catch system calls cannot be moved");
}

// The kernel aborts an interrupted rseq critical section when the thread returns to user mode, but by then it would see
// the injected code's address and forget the section. So the thread is moved to the abort handler here.
void leave_rseq_section(pid_t pid, pid_t tid, Regs& regs) {
  __ptrace_rseq_configuration conf{};
  if (::ptrace(static_cast<__ptrace_request>(PTRACE_GET_RSEQ_CONFIGURATION), tid, sizeof conf, &conf) < 0)
    return;  // 5.13+
  std::uint64_t at = 0;
  RseqCriticalSection section{};
  if (!conf.rseq_abi_pointer || !peek(pid, conf.rseq_abi_pointer + rseq_cs_offset, at) || !at) return;
  if (!peek(pid, at, section)) return;
  if (regs.rip - section.start < section.length) regs.rip = section.abort;
}

// Of a thread in a group stop.
int stop_signal_of(pid_t tid) {
  Siginfo info{};
  trace(PTRACE_GETSIGINFO, tid, 0, reinterpret_cast<unsigned long>(&info), "ask for the stop of");
  const int number = info.number();
  return number == SIGTSTP || number == SIGTTIN || number == SIGTTOU ? number : SIGSTOP;
}

}  // namespace

RemoteAddr find_hole(const std::vector<proc::Vma>& maps, std::uint64_t size) {
  constexpr std::uint64_t margin = 1u << 20, highest = 0x7fff'0000'0000;
  std::uint64_t free_from = 0x1000'0000;
  for (const proc::Vma& vma : maps) {
    if (vma.start > highest) break;
    if (vma.start >= free_from && vma.start - free_from >= size + 2 * margin) break;
    free_from = std::max(free_from, vma.end);
  }
  if (free_from + size + 2 * margin > highest)
    fail(Errc::no_space, "the address space has no room for {} bytes of scratch memory", size);
  return RemoteAddr{page_up(free_from + margin)};
}

Hold::Hold(pid_t pid, Journal& journal, InterruptedCalls& calls, const HoldOptions& options)
    : pid_(pid), whole_journal_(journal), calls_(calls), options_(options) {
  Doing doing("holding process {}", pid);
  try {
    stop();
    borrow();
  } catch (...) {
    abandon();
    throw;
  }
  try {
    for (const HeldThread& t : threads_) {
      refuse_dispatch(t.tid);
      suspend_filters(pid_, t.tid);
    }
  } catch (...) {
    release();  // without a trace: no call has been injected
    throw;
  }
}

Hold::~Hold() {
  if (!held_) return;
  try {
    release();
  } catch (const std::exception& e) {
    log::error("hold.not_released", {{"pid", pid_}, {"error", e.what()}});
    abandon();
  }
}

void Hold::stop() {
  const proc::KeptDirectories kept;
  const proc::Reader proc(pid_);
  const proc::Status status = proc.status();
  if (status.tracer_pid)
    throw Error(
        Errc::busy,
        fmt::format("it is traced by process {} ({})", status.tracer_pid, proc::Reader(status.tracer_pid).comm()),
        "detach the debugger and try again");
  if (status.state == 'Z' || status.state == 'X') fail(Errc::target_gone, "it has ended");
  was_stopped_ = status.state == 'T';
  start_time_ = proc.stat().start_time;
  journal_ = whole_journal_.begin(pid_, start_time_, was_stopped_);
  calls_.look(pid_);
  if (options_.pin) pin_.emplace();
  if (pin_) brought_.emplace(pid_, *journal_, *pin_);
  group_stop_.emplace(pid_, *journal_);
  Hurry hurry;
  const StopLimit limit(options_.limit);
  while (!seize(limit))
    if (limit.over()) fail(Errc::timed_out, "somebody else goes on sending SIGCONT to process {}", pid_);
  if (was_stopped_) stop_signal_ = stop_signal_of(threads_.front().tid);
  fault::point("engine.hold.seized");
}

// False: a SIGCONT from elsewhere has come before the last thread was seized.
bool Hold::seize(const StopLimit& limit) {
  stopped_at_ = monotonic_ns();
  const auto begin_again = [&](bool stopped) {
    was_stopped_ = stopped;
    journal_->begin_again(stopped);
    group_stop_->undone();
    return false;
  };
  if (!was_stopped_)
    group_stop_->begin(limit);
  else if (!group_stop_->await(limit))
    return begin_again(false);
  fault::point("engine.hold.stopped");
  bool stopped_by_others = false;
  Escort escort;
  if (brought_) {
    escort.bring = [this](pid_t tid) { brought_->bring(tid); };
    escort.runs = [this](pid_t tid) { brought_->take_back(tid); };
  }
  escort.back = [&] {
    if (brought_) brought_->take_all_back();
    stopped_by_others = any_pending(pid_, signal_bit(SIGSTOP));  // ours are gone since the SIGCONT
  };
  const auto tids = seize_stopped_threads(pid_, PTRACE_O_TRACESYSGOOD, limit, escort);
  if (!tids) return begin_again(stopped_by_others);
  for (const pid_t tid : *tids) threads_.push_back({.tid = tid});
  return true;
}

void Hold::borrow() {
  held_ = true;
  keep_pending(*journal_, pid_, tids(), continue_signal);  // of a SIGCONT that came after the stop
  maps_ = proc::parse_maps(read_file(fmt::format("/proc/{}/maps", pid_)));
  for (const proc::Vma& vma : maps_)
    if (vma.kind == proc::VmaName::vdso)
      instruction_ = find_syscall_instruction(pid_, RemoteAddr{vma.start}, RemoteAddr{vma.end});
  if (raw(instruction_) == 0 && is_ending(pid_)) fail(Errc::target_gone, "it has been killed");
  if (raw(instruction_) == 0) fail(Errc::unsupported, "it has no vdso to run system calls from");
  for (HeldThread& t : threads_) {
    t.regs = get_regs(t.tid);
    leave_rseq_section(pid_, t.tid, t.regs);
    t.sigmask = get_sigmask(t.tid);
    t.interrupted = calls_.settle(pid_, t.tid, stopped_at_, t.sigmask, maps_, t.regs);
    ::syscall(SYS_sched_getaffinity, t.tid, t.affinity.size(), t.affinity.data());
    if (const auto* brought = brought_ ? brought_->find(t.tid) : nullptr) {
      // Else it is another thread by now: it has run another program, and has the leader's TID since.
      if (pin_->is_place(t.affinity)) t.affinity = brought->affinity;
      journal_->borrow(brought->place, t.regs, t.sigmask, t.affinity);
      continue;
    }
    journal_->add({.tid = t.tid,
                   .pinned = pin_.has_value(),
                   .borrowed = 1,
                   .affinity = t.affinity,
                   .regs = t.regs,
                   .sigmask = t.sigmask});
  }
  journal_->held(raw(instruction_));
  end_signal_ = end_of_batches();
  const std::uint64_t open = end_signal_ ? signal_bit(end_signal_) : 0;
  for (const HeldThread& t : threads_) {
    set_sigmask(t.tid, all_signals & ~open);
    if (pin_ && !brought_->find(t.tid)) pin_->bring(t.tid);
  }
  own_stop_queued_ = group_stop_->sent_again() && any_queued(threads_.front().tid, SignalQueue::process, SIGSTOP);
}

// With many threads, a signal of which the process would take no notice, nor has a thread that waits for it.
int Hold::end_of_batches() const {
  constexpr std::size_t many = 32;
  if (threads_.size() <= many) return 0;
  std::uint64_t used = proc::Reader(pid_).status().sig_caught;
  for (const HeldThread& t : threads_) used |= t.sigmask;
  for (const int number : {SIGURG, SIGWINCH})
    if (!(used & signal_bit(number))) return number;
  return 0;
}

RemoteSyscalls& Hold::remote(pid_t tid) {
  const auto [at, fresh] = remotes_.try_emplace(tid, pid_, tid, instruction_);
  if (fresh && end_signal_) at->second.end_batches_with(end_signal_);
  if (fresh) at->second.expect_stop(own_stop_queued_);
  return at->second;
}

RemoteAddr Hold::scratch() {
  if (!scratch_) {
    const RemoteAddr at = find_hole(shares_memory_ ? proc::Reader(pid_).maps() : maps_, ScratchLayout::size);
    journal_->scratch(at);
    scratch_ = std::make_unique<Scratch>(leader(), at);
    fault::point("engine.inject.scratch");
  }
  return scratch_->address();
}

std::pair<std::uint64_t, std::uint64_t> Hold::scratch_range() const {
  if (!scratch_) return {};
  const std::uint64_t at = raw(scratch_->address());
  return {at, at + ScratchLayout::size};
}

void Hold::share_memory() {
  shares_memory_ = true;
  maps_ = proc::Reader(pid_).maps();  // another one may have mapped something after this one stopped
}

// Whoever stands in its stub leaves it first, and the leader, who unmaps it, last.
void Hold::end_calls() {
  std::erase_if(remotes_, [&](const auto& r) { return r.first != pid_; });
  scratch_.reset();
  remotes_.clear();
}

void Hold::drop_scratch() {
  end_calls();
  journal_->scratch_gone();
}

void Hold::put_back() {
  drop_scratch();
  for (const HeldThread& t : threads_) {
    set_regs(t.tid, t.regs);
    if (pin_) ::syscall(SYS_sched_setaffinity, t.tid, t.affinity.size(), t.affinity.data());
  }
  journal_->releasing();
}

void Hold::swallow_sigcont() {
  if (!was_stopped_) {
    keep_pending(*journal_, pid_, tids(), continue_signal | stop_signals);
    engine::swallow_sigcont(pid_, threads_.front().tid);
    queue_again(pid_, journal_->kept());
  }
  drop_child_stop();
  for (const HeldThread& t : threads_) set_sigmask(t.tid, t.sigmask);
}

void Hold::hide_stops_of(std::set<pid_t> children, std::set<pid_t> zombies) {
  held_children_ = std::move(children);
  zombies_ = std::move(zombies);
}

bool Hold::a_child_has_ended() const {
  return std::ranges::any_of(proc::Reader(pid_).children(),
                             [&](pid_t child) { return !zombies_.contains(child) && has_ended(child); });
}

bool Hold::caused_by_us(const Siginfo& info) const {
  if (info.number() != SIGCHLD || held_children_.empty()) return false;
  siginfo_t fields{};
  std::memcpy(&fields, info.bytes.data(), std::min(sizeof fields, info.bytes.size()));
  const bool stop = fields.si_code == CLD_STOPPED || fields.si_code == CLD_CONTINUED || fields.si_code == CLD_TRAPPED;
  return stop && held_children_.contains(fields.si_pid);
}

void Hold::drop_child_stop() {
  const pid_t leader = threads_.front().tid;
  const std::vector<Siginfo> queue = queued_signals(leader, SignalQueue::process);
  if (std::ranges::none_of(queue, [&](const Siginfo& info) { return caused_by_us(info); })) return;
  if (a_child_has_ended()) return;
  set_sigmask(leader, all_signals & ~signal_bit(SIGCHLD));
  take_signal(leader, SIGCHLD);
  to_trap_stop(leader, 0);
  set_sigmask(leader, all_signals);
}

void Hold::detach() {
  held_ = false;
  journal_->end();  // before the first thread runs: from here on there is nothing to put back
  detach_threads(tids());
  pin_.reset();
}

// What has been killed meanwhile is a zombie of its parent once its tracer has taken notice of all its threads.
bool Hold::bury() {
  for (int i = 0; i < 1000 && !has_ended(pid_); i++) ::usleep(100);
  if (!has_ended(pid_)) return false;
  detach_threads(tids());
  gone();
  return true;
}

void Hold::release() {
  Doing doing("releasing process {}", pid_);
  try {
    put_back();
    swallow_sigcont();
    detach();
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone || !bury()) throw;
  }
}

void Hold::let_run() {
  was_stopped_ = false;
  release();
}

// A detached thread takes part in the group stop that its process is in.
void Hold::leave_stopped() {
  Doing doing("leaving process {} stopped", pid_);
  put_back();
  if (!journal_->kept().empty())
    log::warn("hold.sigcont_lost", {{"pid", pid_}, {"reason", "a stopped process has no SIGCONT pending"}});
  for (const HeldThread& t : threads_) set_sigmask(t.tid, t.sigmask);
  detach();
}

void Hold::make_ready_to_freeze() {
  Doing doing("leaving process {} to the freezer", pid_);
  put_back();
  // The SIGCONT is taken before the freeze: a frozen thread takes none, and at the thaw a handler would run.
  swallow_sigcont();
}

void Hold::leave_frozen() { detach(); }

std::vector<pid_t> Hold::tids() const {
  std::vector<pid_t> all;
  for (const HeldThread& t : threads_) all.push_back(t.tid);
  return all;
}

void Hold::gone() {
  held_ = false;
  if (scratch_) scratch_->forget();
  for (auto& [tid, remote] : remotes_) remote.forget();
  journal_->end();
  pin_.reset();
}

// Whatever can still be undone after a failure.
void Hold::abandon() noexcept {
  if (!journal_ || journal_->phase() == HoldPhase::idle) return;
  end_calls();
  for (const HeldThread& t : threads_) {
    if (held_) {
      iovec view{const_cast<Regs*>(&t.regs), sizeof t.regs};
      if (t.regs.rip) {
        ::ptrace(PTRACE_SETREGSET, t.tid, 1 /* NT_PRSTATUS */, &view);
        ::ptrace(static_cast<__ptrace_request>(PTRACE_SETSIGMASK), t.tid, sizeof t.sigmask, &t.sigmask);
        if (pin_) ::syscall(SYS_sched_setaffinity, t.tid, t.affinity.size(), t.affinity.data());
      }
    }
  }
  if (brought_) brought_->take_all_back();
  held_ = false;
  detach_threads(tids());
  if (group_stop_ && group_stop_->sent() && !was_stopped_) ::kill(pid_, SIGCONT);
  journal_->end();
  pin_.reset();
}

}  // namespace godwit::engine
