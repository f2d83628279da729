#include "agent/engine/tasks/signals.h"

#include "common/base/check.h"

#include <algorithm>
#include <csignal>
#include <cstring>

#include <sys/syscall.h>

namespace godwit::engine::tasks::signals {
namespace {

struct KernelSigaction {
  std::uint64_t handler, flags, restorer, mask;
};
constexpr int last_signal = 64;
constexpr std::size_t mask_size = 8;

bool has_action(int number) { return number != SIGKILL && number != SIGSTOP; }

Siginfo siginfo_of(const image::SiginfoEntry& e) {
  Siginfo info;
  if (e.siginfo().size() != info.bytes.size())
    fail(Errc::image_corrupt, "a queued signal has {} bytes", e.siginfo().size());
  std::memcpy(info.bytes.data(), e.siginfo().data(), info.bytes.size());
  return info;
}

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

void dump_queue(pid_t tid, SignalQueue queue, std::span<const KeptSignal> kept,
                const std::function<bool(const Siginfo&)>& left_out, image::SignalQueueEntry& into) {
  std::vector<Siginfo> all = queued_signals(tid, queue);
  std::erase_if(all, left_out);
  for (const KeptSignal& k : kept) {
    const bool here = k.tid == (queue == SignalQueue::process ? 0 : tid);
    const auto same = [&](const Siginfo& s) { return s.number() == k.info.number(); };
    if (here && std::ranges::none_of(all, same)) all.push_back(k.info);
  }
  for (const Siginfo& info : all) into.add_signals()->set_siginfo(info.bytes.data(), info.bytes.size());
}

void restore_queue(Batch& batch, SignalQueue queue, pid_t pid, pid_t tid, const image::SignalQueueEntry& from) {
  for (const image::SiginfoEntry& e : from.signals()) {
    const Siginfo info = siginfo_of(e);
    const int number = info.number();
    if (number == SIGCONT) continue;
    const RemoteAddr at = batch.put(info);
    if (queue == SignalQueue::process)
      batch.add("queue a signal", SYS_rt_sigqueueinfo, pid, number, at);
    else
      batch.add("queue a signal to a thread", SYS_rt_tgsigqueueinfo, pid, tid, number, at);
  }
}

void restore_continue(SignalQueue queue, pid_t pid, pid_t tid, const image::SignalQueueEntry& from) {
  for (const image::SiginfoEntry& e : from.signals())
    if (const Siginfo info = siginfo_of(e); info.number() == SIGCONT)
      queue_again(pid, {.tid = queue == SignalQueue::process ? 0 : tid, .info = info});
}

bool has(const image::SignalQueueEntry& queue, int number) {
  return std::ranges::any_of(queue.signals(), [&](const auto& e) { return siginfo_of(e).number() == number; });
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
