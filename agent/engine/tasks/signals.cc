#include "agent/engine/tasks/signals.h"

#include "common/base/check.h"

#include <csignal>
#include <cstring>

#include <sys/ptrace.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::signals {
namespace {

struct KernelSigaction {
  std::uint64_t handler, flags, restorer, mask;
};
constexpr int last_signal = 64;
constexpr std::size_t mask_size = 8;
constexpr std::size_t siginfo_size = 128;

bool has_action(int number) { return number != SIGKILL && number != SIGSTOP; }

}  // namespace

void dump_actions(Inquiry& ask, image::TaskCoreEntry& into) {
  for (int number = 1; number <= last_signal; number++) {
    if (!has_action(number)) continue;
    const RemoteAddr at = ask.batch().reserve(sizeof(KernelSigaction));
    ask.batch().add("read a signal action", SYS_rt_sigaction, number, 0, at, mask_size);
    ask.then([&into, at](const Batch& b) {
      const auto action = b.read<KernelSigaction>(at);
      image::SaEntry& e = *into.add_sigactions();
      e.set_sigaction(action.handler);
      e.set_flags(action.flags);
      e.set_restorer(action.restorer);
      e.set_mask(action.mask);
    });
  }
}

void restore_actions(Batch& batch, const image::TaskCoreEntry& from) {
  int index = 0;
  for (int number = 1; number <= last_signal && index < from.sigactions_size(); number++) {
    if (!has_action(number)) continue;
    const image::SaEntry& e = from.sigactions(index++);
    const KernelSigaction action{e.sigaction(), e.flags(), e.restorer(), e.mask()};
    batch.add("set a signal action", SYS_rt_sigaction, number, batch.put(action), 0, mask_size);
  }
}

void dump_queue(pid_t tid, Queue queue, image::SignalQueueEntry& into) {
  constexpr int at_once = 32;
  __ptrace_peeksiginfo_args args{};
  args.nr = at_once;
  args.flags = queue == Queue::process ? PTRACE_PEEKSIGINFO_SHARED : 0;
  siginfo_t infos[at_once];
  for (;;) {
    const long n = trace(PTRACE_PEEKSIGINFO, tid, reinterpret_cast<unsigned long>(&args),
                         reinterpret_cast<unsigned long>(infos), "read the queued signals of");
    if (n <= 0) return;
    for (long i = 0; i < n; i++) into.add_signals()->set_siginfo(&infos[i], siginfo_size);
    args.off += static_cast<std::uint64_t>(n);
  }
}

void restore_queue(Batch& batch, Queue queue, pid_t pid, pid_t tid, const image::SignalQueueEntry& from) {
  for (const image::SiginfoEntry& e : from.signals()) {
    if (e.siginfo().size() != siginfo_size)
      fail(Errc::image_corrupt, "a queued signal has {} bytes", e.siginfo().size());
    int number = 0;
    std::memcpy(&number, e.siginfo().data(), sizeof number);
    const RemoteAddr info = batch.put_bytes(std::as_bytes(std::span(e.siginfo())));
    if (queue == Queue::process)
      batch.add("queue a signal", SYS_rt_sigqueueinfo, pid, number, info);
    else
      batch.add("queue a signal to a thread", SYS_rt_tgsigqueueinfo, pid, tid, number, info);
  }
}

void dump_stack(Inquiry& ask, image::ThreadCoreEntry& into) {
  const RemoteAddr at = ask.batch().reserve(sizeof(stack_t));
  ask.batch().add("read the alternate stack", SYS_sigaltstack, 0, at);
  ask.then([&into, at](const Batch& b) {
    const auto stack = b.read<stack_t>(at);
    into.mutable_sas()->set_ss_sp(reinterpret_cast<std::uint64_t>(stack.ss_sp));
    into.mutable_sas()->set_ss_size(stack.ss_size);
    into.mutable_sas()->set_ss_flags(static_cast<std::uint32_t>(stack.ss_flags));
  });
}

void restore_stack(Batch& batch, const image::ThreadCoreEntry& from) {
  if (!from.has_sas()) return;
  stack_t stack{};
  stack.ss_sp = reinterpret_cast<void*>(from.sas().ss_sp());
  stack.ss_size = from.sas().ss_size();
  // Being on the stack is a matter of where the stack pointer is.
  stack.ss_flags = static_cast<int>(from.sas().ss_flags()) & ~SS_ONSTACK;
  batch.add("set the alternate stack", SYS_sigaltstack, batch.put(stack), 0);
}

}  // namespace godwit::engine::tasks::signals
