#include "agent/engine/tasks/thread_links.h"

#include "common/base/check.h"

#include <array>

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::thread_links {

void dump(pid_t tid, Inquiry& ask, image::CoreEntry& into) {
  image::ThreadCoreEntry& thread = *into.mutable_thread_core();
  __ptrace_rseq_configuration conf{};
  trace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof conf, reinterpret_cast<unsigned long>(&conf),
        "read the rseq area of");
  if (conf.rseq_abi_pointer) {
    thread.mutable_rseq_entry()->set_rseq_abi_pointer(conf.rseq_abi_pointer);
    thread.mutable_rseq_entry()->set_rseq_abi_size(conf.rseq_abi_size);
    thread.mutable_rseq_entry()->set_signature(conf.signature);
  }
  Batch& batch = ask.batch();
  const RemoteAddr list = batch.reserve(8), length = batch.reserve(8), clear = batch.reserve(8),
                   name = batch.reserve(16), death = batch.reserve(4);
  batch.add("read the robust list", SYS_get_robust_list, 0, list, length);
  batch.add("read the address to clear", SYS_prctl, PR_GET_TID_ADDRESS, clear, 0, 0, 0);
  batch.add("read the name", SYS_prctl, PR_GET_NAME, name);
  batch.add("read the signal at the parent's death", SYS_prctl, PR_GET_PDEATHSIG, death);
  ask.then([&into, &thread, list, length, clear, name, death](const Batch& b) {
    thread.set_futex_rla(b.read<std::uint64_t>(list));
    thread.set_futex_rla_len(static_cast<std::uint32_t>(b.read<std::uint64_t>(length)));
    into.mutable_thread_info()->set_clear_tid_addr(b.read<std::uint64_t>(clear));
    const auto text = b.read<std::array<char, 16>>(name);
    thread.set_comm(std::string(text.data(), ::strnlen(text.data(), text.size())));
    thread.set_pdeath_sig(static_cast<std::uint32_t>(b.read<int>(death)));
  });
}

void restore(Batch& batch, const image::CoreEntry& from, bool leader) {
  const image::ThreadCoreEntry& thread = from.thread_core();
  if (leader) batch.add("set the address to clear", SYS_set_tid_address, from.thread_info().clear_tid_addr());
  if (thread.futex_rla())
    batch.add("set the robust list", SYS_set_robust_list, thread.futex_rla(), thread.futex_rla_len());
  if (thread.rseq_entry().rseq_abi_pointer())
    batch.add("register the rseq area", SYS_rseq, thread.rseq_entry().rseq_abi_pointer(),
              thread.rseq_entry().rseq_abi_size(), 0, thread.rseq_entry().signature());
  const std::string& name = thread.has_comm() ? thread.comm() : from.tc().comm();
  batch.add("set the name", SYS_prctl, PR_SET_NAME, batch.put(std::string_view(name)));
}

void restore_parent_death(Batch& batch, const image::CoreEntry& from) {
  if (from.thread_core().pdeath_sig())
    batch.add("set the signal at the parent's death", SYS_prctl, PR_SET_PDEATHSIG, from.thread_core().pdeath_sig());
}

}  // namespace godwit::engine::tasks::thread_links
