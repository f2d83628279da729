#include "agent/engine/tasks/process_flags.h"

#include "common/base/check.h"

#include <array>

#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::process_flags {
namespace {

constexpr int membarrier_get_registrations = 1 << 9;  // 6.3+
constexpr int suid_dumpable = 2;                      // only the kernel sets it

}  // namespace

void dump(const proc::Reader& proc, Inquiry& ask, image::TaskCoreEntry& tc, image::MmEntry& mm) {
  tc.set_personality(proc.personality());
  tc.set_oom_score_adj(proc.oom_score_adj());
  tc.set_coredump_filter(static_cast<std::uint32_t>(std::stoul(proc.text("coredump_filter"), nullptr, 16)));
  Batch& batch = ask.batch();
  const RemoteAddr reaper = batch.reserve(4);
  const std::size_t dumpable = batch.add("read the dumpable flag", SYS_prctl, PR_GET_DUMPABLE);
  batch.add("read the subreaper flag", SYS_prctl, PR_GET_CHILD_SUBREAPER, reaper);
  const std::size_t thp = batch.attempt("read the huge page flag", SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0);
  const std::size_t barrier =
      batch.attempt("read membarrier registrations", SYS_membarrier, membarrier_get_registrations, 0, 0);
  ask.then([&tc, &mm, dumpable, reaper, thp, barrier](const Batch& b) {
    mm.set_dumpable(static_cast<std::int32_t>(b.result(dumpable)));
    tc.set_child_subreaper(b.read<int>(reaper) != 0);
    if (b.result(thp) == 1) mm.set_thp_disabled(true);
    if (b.result(barrier) > 0) tc.set_membarrier_registration_mask(static_cast<std::uint32_t>(b.result(barrier)));
  });
}

void restore(Batch& batch, const image::TaskCoreEntry& tc, const image::MmEntry& mm) {
  batch.add("set the personality", SYS_personality, tc.personality());
  if (tc.child_subreaper()) batch.add("become a subreaper", SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
  batch.add("set the huge page flag", SYS_prctl, PR_SET_THP_DISABLE, mm.thp_disabled(), 0, 0, 0);
  for (std::uint32_t bit = 1; bit && bit <= tc.membarrier_registration_mask(); bit <<= 1)
    if (tc.membarrier_registration_mask() & bit) batch.add("register for membarrier", SYS_membarrier, bit, 0, 0);
}

void restore_dumpable(Batch& batch, const image::MmEntry& mm) {
  if (mm.has_dumpable() && mm.dumpable() != suid_dumpable)
    batch.add("set the dumpable flag", SYS_prctl, PR_SET_DUMPABLE, mm.dumpable());
}

std::vector<std::string> restore_outside(pid_t pid, const image::TaskCoreEntry& tc) {
  std::vector<std::string> notices;
  if (tc.has_oom_score_adj()) {
    UniqueFd fd = open_file(fmt::format("/proc/{}/oom_score_adj", pid), O_WRONLY);
    const std::string text = std::to_string(tc.oom_score_adj());
    if (::write(fd.get(), text.data(), text.size()) < 0) {
      if (errno != EACCES) check(-1, "set the OOM score");
      notices.push_back(fmt::format("the OOM score adjustment {} needs CAP_SYS_RESOURCE", tc.oom_score_adj()));
    }
  }
  if (tc.has_coredump_filter())
    write_file(fmt::format("/proc/{}/coredump_filter", pid), fmt::format("{:#x}", tc.coredump_filter()));
  return notices;
}

}  // namespace godwit::engine::tasks::process_flags
