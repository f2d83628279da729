#include "agent/engine/tasks/thread_flags.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::thread_flags {
namespace {

constexpr int get_cpuid = 0x1011, set_cpuid = 0x1012;  // arch_prctl(2); not in Debian 12's headers
constexpr int misfeatures = PR_SPEC_L1D_FLUSH + 1;

// As every thread has it that never asked: speculation goes on, L1D is not flushed.
constexpr std::uint32_t untouched(int misfeature) {
  return PR_SPEC_PRCTL | (misfeature == PR_SPEC_L1D_FLUSH ? PR_SPEC_DISABLE : PR_SPEC_ENABLE);
}

}  // namespace

void dump(Inquiry& ask, image::ThreadCoreEntry& into) {
  Batch& batch = ask.batch();
  const RemoteAddr mode = batch.reserve(sizeof(int));
  const std::size_t tsc = batch.attempt("read the RDTSC switch", SYS_prctl, PR_GET_TSC, mode),
                    cpuid = batch.attempt("read the CPUID switch", SYS_arch_prctl, get_cpuid, 0),
                    error = batch.attempt("read the memory error policy", SYS_prctl, PR_MCE_KILL_GET, 0, 0, 0, 0);
  ask.then([=, &into](const Batch& b) {
    if (b.result(tsc) == 0 && b.read<int>(mode) == PR_TSC_SIGSEGV) into.set_tsc_faults(true);
    if (b.result(cpuid) == 0) into.set_cpuid_faults(true);
    if (b.result(error) >= 0 && b.result(error) != PR_MCE_KILL_DEFAULT)
      into.set_memory_error(static_cast<std::uint32_t>(b.result(error)));
  });
  for (int i = 0; i < misfeatures; i++) {
    const std::size_t call = batch.attempt("read a speculation switch", SYS_prctl, PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
    // A value without PR_SPEC_PRCTL is the machine's, not the thread's.
    ask.then([=, &into](const Batch& b) {
      const long state = b.result(call);
      into.add_speculation(state > 0 && state & PR_SPEC_PRCTL ? static_cast<std::uint32_t>(state) : untouched(i));
    });
  }
}

void restore(Batch& batch, const image::ThreadCoreEntry& from) {
  if (from.tsc_faults()) batch.add("forbid RDTSC", SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV);
  if (from.cpuid_faults()) batch.add("forbid CPUID", SYS_arch_prctl, set_cpuid, 0);
  if (from.has_memory_error())
    batch.add("set the memory error policy", SYS_prctl, PR_MCE_KILL, PR_MCE_KILL_SET, from.memory_error(), 0, 0);
  for (int i = 0; i < from.speculation_size() && i < misfeatures; i++)
    if (const std::uint32_t state = from.speculation(i); state != untouched(i))
      batch.add("set a speculation switch", SYS_prctl, PR_SET_SPECULATION_CTRL, i,
                state & ~static_cast<std::uint32_t>(PR_SPEC_PRCTL), 0, 0);
}

}  // namespace godwit::engine::tasks::thread_flags
