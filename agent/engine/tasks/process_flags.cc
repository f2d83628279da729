#include "agent/engine/tasks/process_flags.h"

#include "agent/engine/tasks/registers.h"
#include "common/base/check.h"

#include <array>
#include <bit>
#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::process_flags {
namespace {

constexpr int membarrier_get_registrations = 1 << 9;  // 6.3+
constexpr int suid_dumpable = 2;                      // only the kernel sets it
constexpr int set_mdwe = 65, get_mdwe = 66;           // PR_SET_MDWE, 6.3+
constexpr int set_merge = 67, get_merge = 68;         // PR_SET_MEMORY_MERGE, 6.4+
constexpr long thp_disabled = 1;                      // above it, since 6.18: the flags that go with it
constexpr std::uint32_t no_loginuid = ~0u;
constexpr int get_permitted = 0x1022, ask_permission = 0x1023;  // ARCH_..._XCOMP_PERM, 5.16+

// No such file without CONFIG_SCHED_AUTOGROUP.
int autogroup_nice(const proc::Reader& proc) {
  const UniqueFd file(::openat(proc.dir(), "autogroup", O_RDONLY | O_CLOEXEC));
  if (!file) return 0;
  return proc::parse_autogroup_nice(read_all(file.get()));
}

std::uint32_t loginuid(const proc::Reader& proc) {
  const UniqueFd file(::openat(proc.dir(), "loginuid", O_RDONLY | O_CLOEXEC));
  return file ? proc::parse_loginuid(read_all(file.get())) : no_loginuid;  // no such file without CONFIG_AUDIT
}

// Of the process: extended state that is too large for everybody to have.
void ask_permissions(Inquiry& ask, image::TaskCoreEntry& tc) {
  const RemoteAddr mask = ask.batch().reserve(sizeof(std::uint64_t));
  const std::size_t call = ask.batch().attempt("read the permitted state", SYS_arch_prctl, get_permitted, mask);
  ask.then([=, &tc](const Batch& b) {
    const std::uint64_t asked_for = b.result(call) == 0 ? b.read<std::uint64_t>(mask) & registers::on_request : 0;
    if (asked_for) tc.set_xstate_permitted(asked_for);
  });
}

// What mlockall(2) has asked for of mappings to come shows at the newest one, the scratch memory: msync does not
// invalidate what is locked, and its last page, which is not used, is there nevertheless unless MCL_ONFAULT was given.
void ask_future_locks(Inquiry& ask, image::MmEntry& mm) {
  Batch& batch = ask.batch();
  const RemoteAddr last = batch.scratch() + ScratchLayout::unused;
  const RemoteAddr resident = batch.reserve(1);
  const std::size_t sync = batch.attempt("look for a lock", SYS_msync, last, page_size, MS_INVALIDATE),
                    core = batch.attempt("look for a page", SYS_mincore, last, page_size, resident);
  ask.then([=, &mm](const Batch& b) {
    if (b.result(sync) != -EBUSY) return;
    const bool filled = b.result(core) == 0 && (b.read<std::uint8_t>(resident) & 1);
    mm.set_lock_future(filled ? MCL_FUTURE : MCL_FUTURE | MCL_ONFAULT);
  });
}

}  // namespace

void dump(const proc::Reader& proc, Inquiry& ask, image::TaskCoreEntry& tc, image::MmEntry& mm) {
  tc.set_personality(proc.personality());
  tc.set_oom_score_adj(proc.oom_score_adj());
  tc.set_coredump_filter(proc::parse_coredump_filter(proc.text("coredump_filter")));
  if (const int nice = autogroup_nice(proc)) tc.set_autogroup_nice(nice);
  tc.set_loginuid(loginuid(proc));
  Batch& batch = ask.batch();
  ask_permissions(ask, tc);
  ask_future_locks(ask, mm);
  const RemoteAddr reaper = batch.reserve(4);
  const std::size_t dumpable = batch.add("read the dumpable flag", SYS_prctl, PR_GET_DUMPABLE);
  batch.add("read the subreaper flag", SYS_prctl, PR_GET_CHILD_SUBREAPER, reaper);
  const std::size_t thp = batch.attempt("read the huge page flag", SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0);
  const std::size_t barrier =
      batch.attempt("read membarrier registrations", SYS_membarrier, membarrier_get_registrations, 0, 0);
  const std::size_t merge = batch.attempt("read the merge flag", SYS_prctl, get_merge, 0, 0, 0, 0),
                    mdwe = batch.attempt("read the write-or-execute flags", SYS_prctl, get_mdwe, 0, 0, 0, 0);
  ask.then([=, &tc, &mm](const Batch& b) {
    mm.set_dumpable(static_cast<std::int32_t>(b.result(dumpable)));
    tc.set_child_subreaper(b.read<int>(reaper) != 0);
    if (b.result(thp) > 0) {
      mm.set_thp_disabled(true);
      if (const long flags = b.result(thp) & ~thp_disabled) mm.set_thp_disable_flags(static_cast<std::uint32_t>(flags));
    }
    if (b.result(merge) == 1) mm.set_merge_any(true);
    if (b.result(mdwe) > 0) mm.set_deny_write_exec(static_cast<std::uint32_t>(b.result(mdwe)));
    if (b.result(barrier) > 0) tc.set_membarrier_registration_mask(static_cast<std::uint32_t>(b.result(barrier)));
  });
}

void restore(Batch& batch, const image::TaskCoreEntry& tc, const image::MmEntry& mm) {
  batch.add("set the personality", SYS_personality, tc.personality());
  if (tc.child_subreaper()) batch.add("become a subreaper", SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
  batch.add("set the huge page flag", SYS_prctl, PR_SET_THP_DISABLE, mm.thp_disabled(), mm.thp_disable_flags(), 0, 0);
  for (std::uint64_t left = tc.xstate_permitted() & registers::on_request; left; left &= left - 1)
    batch.add("ask for large registers (AMX)", SYS_arch_prctl, ask_permission, std::countr_zero(left));
  for (std::uint32_t bit = 1; bit && bit <= tc.membarrier_registration_mask(); bit <<= 1)
    if (tc.membarrier_registration_mask() & bit) batch.add("register for membarrier", SYS_membarrier, bit, 0, 0);
}

void restore_merging(RemoteSyscalls& remote, RemoteAddr scratch, const image::MmEntry& mm) {
  if (!mm.merge_any()) return;
  Batch batch(scratch);
  batch.add("merge equal pages", SYS_prctl, set_merge, 1, 0, 0, 0);
  // That made all mappings mergeable.
  for (const image::VmaEntry& vma : mm.vmas()) {
    if (vma.madv() >> MADV_MERGEABLE & 1) continue;
    batch.attempt("do not merge pages", SYS_madvise, vma.start(), vma.end() - vma.start(), MADV_UNMERGEABLE);
    if (batch.fits(1)) continue;
    remote.run(batch);
    batch.clear();
  }
  remote.run(batch);
}

void restore_future_locks(RemoteSyscalls& remote, const image::MmEntry& mm) {
  if (mm.lock_future() & MCL_FUTURE)
    remote.call("lock mappings to come", SYS_mlockall, mm.lock_future() & (MCL_FUTURE | MCL_ONFAULT));
}

void restore_write_or_execute(RemoteSyscalls& remote, const image::MmEntry& mm) {
  if (mm.deny_write_exec())
    remote.call("deny memory that is writable and executable", SYS_prctl, set_mdwe, mm.deny_write_exec(), 0, 0, 0);
}

void restore_loginuid(RemoteSyscalls& remote, RemoteAddr scratch, const image::TaskCoreEntry& tc,
                      std::vector<std::string>& notices) {
  if (!tc.has_loginuid() || tc.loginuid() == loginuid(proc::Reader(remote.pid()))) return;
  Batch batch(scratch);
  const std::size_t open = batch.attempt("open the login's user", SYS_openat, AT_FDCWD,
                                         batch.put(std::string_view("/proc/self/loginuid")), O_WRONLY | O_CLOEXEC, 0);
  remote.run(batch);
  const long fd = batch.result(open);
  if (fd >= 0) {
    batch.clear();
    const std::string text = std::to_string(tc.loginuid());
    batch.attempt("set the login's user", SYS_write, fd, batch.put(std::string_view(text)), text.size());
    batch.add("close it", SYS_close, fd);
    remote.run(batch);
  }
  if (loginuid(proc::Reader(remote.pid())) != tc.loginuid())
    notices.push_back(
        fmt::format("user {} of its login, which the audit log names, is not granted here", tc.loginuid()));
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
  if (tc.autogroup_nice())
    write_file(fmt::format("/proc/{}/autogroup", pid), std::to_string(tc.autogroup_nice()), 0644);
  return notices;
}

}  // namespace godwit::engine::tasks::process_flags
