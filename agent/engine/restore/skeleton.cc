#include "agent/engine/restore/skeleton.h"

#include "agent/engine/ptrace/hold.h"
#include "agent/engine/tasks/bounds.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/image/vma_status.h"
#include "common/proc/reader.h"

#include <algorithm>

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t user_end = 0x7ffffffff000;

bool overlaps(const image::MmEntry& layout, RemoteAddr at) {
  const std::uint64_t start = raw(at), end = start + ScratchLayout::size;
  return std::ranges::any_of(layout.vmas(), [&](const image::VmaEntry& e) { return e.start() < end && start < e.end(); });
}

}  // namespace

RemoteAddr scratch_hole(const image::MmEntry& layout) {
  std::vector<proc::Vma> taken = proc::Reader(::getpid()).maps();
  for (const image::VmaEntry& e : layout.vmas()) taken.push_back({.start = e.start(), .end = e.end()});
  std::ranges::sort(taken, {}, &proc::Vma::start);
  return find_hole(taken, ScratchLayout::size);
}

Skeleton::Skeleton(const SkeletonPlan& plan) : scratch_(scratch_hole(plan.layout)), vdso_(vdso_of(plan.layout)) {
  Doing doing("creating task {}", plan.guest_pid);
  helper_ = std::make_unique<Helper>(HelperPlan{
      .guest_pid = plan.guest_pid, .init_pidfd = plan.init_pidfd, .cgroup_fd = plan.cgroup_fd, .scratch = scratch_});
  pid_ = helper_->skeleton();
  alive_ = true;
  try {
    pidfd_.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, pid_, 0), "open a pidfd of process {}", pid_)));
    trace(PTRACE_SEIZE, pid_, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL, "seize");
    helper_->go();
    const Stop stop = wait_stop(pid_);
    if (!stop.signal_stop(SIGTRAP)) fail(Errc::internal, "the new process stopped with status {:#x}", stop.raw());
    fault::point("engine.restore.spawned");
    // The stub's first instruction is a system call.
    remote_ = std::make_unique<RemoteSyscalls>(pid_, pid_, scratch_);
    clear(plan.layout);
    fault::point("engine.restore.cleared");
  } catch (...) {
    remote_.reset();
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, __WALL);
    throw;
  }
}

Skeleton::~Skeleton() {
  if (!alive_) return;
  ::kill(pid_, SIGKILL);
  // Threads that were restored are children of the engine's ptrace as well: the leader is reported last.
  for (int status = 0; ::waitpid(-1, &status, __WALL | WNOHANG) > 0;) continue;
  ::waitpid(pid_, nullptr, __WALL);
}

void Skeleton::clear(const image::MmEntry& layout) {
  Batch batch(scratch_);
  batch.add("unmap below the scratch mapping", SYS_munmap, 0, raw(scratch_));
  const std::uint64_t above = raw(scratch_) + ScratchLayout::size;
  batch.add("unmap above the scratch mapping", SYS_munmap, above, user_end - above);
  remote_->run(batch);
  tasks::bounds::restore_vdso(*remote_, scratch_, layout);
}

Skeleton::Extent Skeleton::vdso_of(const image::MmEntry& layout) {
  Extent extent{~std::uint64_t{0}, 0};
  for (const image::VmaEntry& e : layout.vmas())
    if (e.status() & (image::vma_status::vdso | image::vma_status::vvar)) {
      extent.first = std::min<std::uint64_t>(extent.first, e.start());
      extent.second = std::max<std::uint64_t>(extent.second, e.end());
    }
  return extent;
}

bool Skeleton::make_way(const image::MmEntry& layout) {
  if (!overlaps(layout, scratch_)) return false;
  const RemoteAddr from = scratch_;
  const RemoteAddr to = scratch_hole(layout);
  // mremap keeps the stub; the call returns into the new place because its exit stop comes first.
  remote_->call("move the scratch mapping", SYS_mremap, from, ScratchLayout::size, ScratchLayout::size,
                MREMAP_MAYMOVE | MREMAP_FIXED, to);
  scratch_ = to;
  remote_->move_instruction(to);
  return true;
}

void Skeleton::drop_scratch() {
  for (const proc::Vma& vma : proc::Reader(pid_).maps())
    if (vma.kind == proc::VmaName::vdso) {
      remote_->move_instruction(find_syscall_instruction(pid_, RemoteAddr{vma.start}, RemoteAddr{vma.end}));
      remote_->call("unmap the scratch mapping", SYS_munmap, scratch_, ScratchLayout::size);
      return;
    }
  fail(Errc::unsupported, "a task without a vdso cannot be restored");
}

}  // namespace godwit::engine
