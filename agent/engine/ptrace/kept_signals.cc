#include "agent/engine/ptrace/kept_signals.h"

#include "common/base/check.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>

#include <sys/ptrace.h>
#include <sys/syscall.h>

namespace godwit::engine {

const std::uint64_t continue_signal = signal_bit(SIGCONT);
const std::uint64_t stop_signals = signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU);

bool any_pending(pid_t pid, std::uint64_t signals) {
  return std::ranges::any_of(proc::Reader(pid).threads(), [&](pid_t tid) {
    try {
      const proc::Status s = proc::Reader(pid, tid).status();
      return ((s.sig_pending | s.shared_sig_pending) & signals) != 0;
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
      return false;
    }
  });
}

void keep_pending(Journal::Process& journal, pid_t pid, std::span<const pid_t> tids, std::uint64_t signals) {
  const auto keep = [&](pid_t owner, const std::vector<Siginfo>& queue) {
    for (const Siginfo& info : queue)
      if (signals & signal_bit(info.number())) journal.keep({.tid = owner, .info = info});
  };
  keep(0, queued_signals(pid, SignalQueue::process));
  for (const pid_t tid : tids) keep(tid, queued_signals(tid, SignalQueue::thread));
}

void queue_again(pid_t pid, const KeptSignal& signal) {
  const int number = signal.info.number();
  const pid_t tid = signal.tid ? signal.tid : pid;
  set_sigmask(tid, all_signals & ~signal_bit(number));
  if (signal.tid)
    check(::syscall(SYS_tgkill, pid, tid, number), "queue signal {} for thread {}", number, tid);
  else
    check(::kill(pid, number), "queue signal {} for process {}", number, pid);
  take_signal(tid, number);
  set_sigmask(tid, all_signals);
  Siginfo info = signal.info;
  trace(PTRACE_SETSIGINFO, tid, 0, reinterpret_cast<unsigned long>(&info), "describe a signal to");
  to_trap_stop(tid, number);
}

// The process's first: a thread takes from its own queue before it looks there.
void queue_again(pid_t pid, std::span<const KeptSignal> signals) {
  for (const KeptSignal& s : signals)
    if (s.tid == 0) queue_again(pid, s);
  for (const KeptSignal& s : signals)
    if (s.tid != 0) queue_again(pid, s);
}

}  // namespace godwit::engine
