#include "agent/engine/restore/skeleton.h"

#include "agent/engine/ptrace/hold.h"
#include "agent/engine/ptrace/tracing.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/proc/reader.h"

#include <algorithm>

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t end_of_memory = 0x7fff'ffff'f000;

// A place that is free here (the skeleton begins as a copy of the engine) and in all layouts given.
RemoteAddr free_place(const std::vector<proc::Vma>& own, const Vmas& first, const Vmas& second) {
  std::vector<proc::Vma> all = own;
  for (const Vmas* layout : {&first, &second})
    for (const image::VmaEntry& e : *layout) {
      proc::Vma vma;
      vma.start = e.start();
      vma.end = e.end();
      all.push_back(vma);
    }
  std::ranges::sort(all, {}, &proc::Vma::start);
  return find_hole(all, ScratchLayout::size);
}

bool is_ready(pid_t pid, RemoteAddr scratch) {
  std::uint64_t word = 0;
  const iovec local{&word, sizeof word};
  const iovec remote{reinterpret_cast<void*>(raw(scratch) + ScratchLayout::table), sizeof word};
  return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof word && word == skeleton_ready;
}

}  // namespace

Skeleton::Skeleton(SpawnRequest request, const Vmas& layout) {
  Doing doing("making process {}", request.pid);
  scratch_ = free_place(proc::Reader(::getpid()).maps(), layout, {});
  request.scratch = raw(scratch_);
  helper_ = std::make_unique<Helper>(request);
  fault::point("engine.restore.spawned");
  // It maps its scratch memory natively: wait until that is there.
  for (int i = 0; !is_ready(pid(), scratch_); i++) {
    if (i == 50'000) fail(Errc::timed_out, "the skeleton is not ready");
    if (i > 200)
      ::usleep(100);
    else
      ::sched_yield();
  }
  seize_threads(pid(), PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL, true, std::chrono::seconds(5));
  set_sigmask(pid(), all_signals);
  leader_ = std::make_unique<RemoteSyscalls>(pid(), pid(), scratch_);
  clear();
  fault::point("engine.restore.cleared");
  memory_ = std::make_unique<AddressSpace>(*leader_, scratch_, helper_->pidfd());
}

void Skeleton::clear() {
  Batch batch(scratch_);
  const std::uint64_t after = raw(scratch_) + ScratchLayout::size;
  batch.add("clear what lies below", SYS_munmap, 0, scratch_);
  batch.add("clear what lies above", SYS_munmap, after, end_of_memory - after);
  batch.add("live without the helper", SYS_prctl, PR_SET_PDEATHSIG, 0);  // its tracer's death is enough
  leader_->run(batch);
}

void Skeleton::make_room_for(const Vmas& layout) {
  const std::uint64_t begin = raw(scratch_), end = begin + ScratchLayout::size;
  const bool taken =
      std::ranges::any_of(layout, [&](const image::VmaEntry& e) { return e.start() < end && begin < e.end(); });
  if (!taken) return;
  const RemoteAddr next = free_place({}, memory_->layout(), layout);
  leader_->call("map scratch memory elsewhere", SYS_mmap, next, ScratchLayout::size, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  const auto code = Stub::code();
  const iovec local{const_cast<std::byte*>(code.data()), code.size()};
  const iovec remote{reinterpret_cast<void*>(raw(next)), code.size()};
  check(::process_vm_writev(pid(), &local, 1, &remote, 1, 0), "write the stub");
  leader_->run_from(next);
  leader_->call("unmap scratch memory", SYS_munmap, scratch_, ScratchLayout::size);
  scratch_ = next;
  memory_->move_scratch(next);
}

void Skeleton::drop_scratch(RemoteAddr syscall_instruction) {
  leader_->run_from(syscall_instruction);
  leader_->call("unmap scratch memory", SYS_munmap, scratch_, ScratchLayout::size);
}

}  // namespace godwit::engine
