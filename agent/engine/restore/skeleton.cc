#include "agent/engine/restore/skeleton.h"

#include "agent/engine/memory/calls.h"
#include "agent/engine/ptrace/hold.h"
#include "agent/engine/ptrace/tracing.h"
#include "agent/engine/restore/pid_holder.h"
#include "agent/engine/restore/set_tid.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <iterator>
#include <ranges>

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t clone_ptrace = 0x2000;
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

// What lies neither in a mapping that stays nor in the scratch memory.
std::vector<LayoutDelta::Range> outside(const Vmas& stay, RemoteAddr scratch) {
  std::vector<LayoutDelta::Range> used{{raw(scratch), raw(scratch) + ScratchLayout::size}};
  for (const image::VmaEntry& e : stay) used.push_back({e.start(), e.end()});
  std::ranges::sort(used, {}, &LayoutDelta::Range::start);
  used.push_back({end_of_memory, end_of_memory});
  std::vector<LayoutDelta::Range> gaps;
  std::uint64_t at = 0;
  for (const LayoutDelta::Range& r : used) {
    if (at < r.start) gaps.push_back({at, r.start});
    at = r.end;
  }
  return gaps;
}

// Its host PID.
pid_t child_of(pid_t parent, const std::vector<pid_t>& names) {
  const std::vector<pid_t> children = proc::Reader(parent).children();
  for (const pid_t child : children | std::views::reverse) {  // the newest is most often the last
    std::vector<pid_t> ids = proc::Reader(child).status().ns_pid;
    if (ids.empty()) ids.push_back(child);
    if (std::ranges::equal(ids | std::views::reverse | std::views::take(names.size()), names | std::views::reverse))
      return child;
  }
  fail(Errc::internal, "process {} is not there", names.front());
}

// Whether a signal ends whoever has no handler of it.
bool is_fatal(int number) {
  constexpr int harmless[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
  return number >= 1 && number <= 64 && std::ranges::find(harmless, number) == std::end(harmless);
}

bool is_ready(pid_t pid, RemoteAddr scratch) {
  std::uint64_t word = 0;
  const iovec local{&word, sizeof word};
  const iovec remote{reinterpret_cast<void*>(raw(scratch) + ScratchLayout::table), sizeof word};
  return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof word && word == skeleton_ready;
}

}  // namespace

Skeleton::Skeleton(Helper& helper, SpawnRequest request, const Vmas& layout, RestoredSegments& segments)
    : names_{request.pid}, in_our_namespace_(helper.in_our_namespace()) {
  Doing doing("making process {}", request.pid);
  scratch_ = free_place(proc::Reader(::getpid()).maps(), layout, {});
  request.scratch = raw(scratch_);
  pidfd_ = helper.spawn(request);
  pid_ = pid_of_pidfd(pidfd_.get());
  fault::point("engine.restore.spawned");
  try {
    // It maps its scratch memory natively: wait until that is there.
    for (int i = 0; !is_ready(pid_, scratch_); i++) {
      if (i == 50'000) fail(Errc::timed_out, "the skeleton is not ready");
      if (i > 200)
        ::usleep(100);
      else
        ::sched_yield();
    }
    seize_threads(pid_, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL, StopLimit(std::chrono::seconds(5)));
    begin(segments, false, {});
  } catch (...) {
    kill();
    throw;
  }
}

// It begins as a copy of the parent, whose tracer it has, too (CLONE_PTRACE).
Skeleton::Skeleton(Skeleton& parent, std::vector<pid_t> names, const Vmas& layout, RestoredSegments& segments,
                   std::uint64_t shared)
    : scratch_(parent.scratch_),
      names_(std::move(names)),
      in_our_namespace_(parent.in_our_namespace_),
      uses_others_memory_((shared & CLONE_VM) != 0) {
  const pid_t guest_pid = names_.front();
  Doing doing("making process {}", guest_pid);
  const bool nested = names_.size() > 1, makes_namespace = names_.size() > parent.names_.size();
  if (nested) helper_ = parent.kept_helper() >= 0 ? parent.kept_helper() : parent.open_helper(segments.maker());
  AddressSpace::Inherited inherited;
  if (!uses_others_memory_) inherited = parent.memory().inherited_by(layout);
  Batch batch(parent.scratch());
  clone_args a{};
  a.flags = clone_ptrace | shared | (makes_namespace ? CLONE_NEWPID : 0u);
  a.exit_signal = SIGCHLD;
  put_names(batch, names_, a);
  const std::size_t call = batch.attempt("fork", SYS_clone3, batch.put(a), sizeof a);
  parent.leader().run(batch);
  if (batch.result(call) == -EEXIST)
    throw Error(Errc::already_exists,
                fmt::format("PID {} is taken by {}", guest_pid,
                            nested ? "another process" : pid_holder(guest_pid, parent.pid())),
                "restore in a PID namespace of its own, or end the process that has it");
  check_raw(batch.result(call), "fork process {}", guest_pid);
  if (nested && parent.kept_helper() < 0 && !(shared & CLONE_FILES))
    parent.leader().call("close a pidfd", SYS_close, helper_);
  pid_ = in_our_namespace_ ? guest_pid : child_of(parent.pid(), names_);
  pidfd_.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, pid_, 0), "open process {}", guest_pid)));
  try {
    const Stop stop = wait_stop(pid_);
    if (!stop.trap_stop()) fail(Errc::internal, "process {} began with status {:#x}", guest_pid, stop.raw());
    if (uses_others_memory_) memory_ = parent.memory_;
    begin(segments, (shared & CLONE_FILES) != 0, std::move(inherited));
    if (!uses_others_memory_) make_room_for(layout);
  } catch (...) {
    kill();
    throw;
  }
}

void Skeleton::begin(RestoredSegments& segments, bool shares_table, AddressSpace::Inherited inherited) {
  set_sigmask(pid_, all_signals);
  leader_ = std::make_unique<RemoteSyscalls>(pid_, pid_, scratch_);
  Calls calls(*leader_, scratch_);
  if (!uses_others_memory_)
    for (const LayoutDelta::Range& r : outside(inherited.mappings, scratch_))
      calls.room().add("clear memory", SYS_munmap, r.start, r.end - r.start);
  calls.room().add("live without the helper", SYS_prctl, PR_SET_PDEATHSIG, 0);  // its tracer's death is enough
  // In a table that it shares are the descriptors of segments by which its maker maps them.
  if (!shares_table) {
    if (helper_ > 0) calls.room().add("close what it has inherited", SYS_close_range, 0, helper_ - 1, 0);
    calls.room().add("close what it has inherited", SYS_close_range, helper_ + 1, ~0u, 0);
  }
  calls.run();
  fault::point("engine.restore.cleared");
  if (uses_others_memory_) return;
  memory_ = std::make_shared<AddressSpace>(*leader_, scratch_, pidfd_.get(), segments, std::move(inherited));
  if (helper_ >= 0) memory_->reach_maker_by(helper_);
}

pid_t Skeleton::name_in_tree(const std::vector<pid_t>& ids) const {
  return ids.size() < names_.size() ? 0 : ids[ids.size() - names_.size()];
}

int Skeleton::open_helper(pid_t helper) {
  const long number = helper_ < 0 ? leader_->call("open the helper", SYS_pidfd_open, helper, 0)
                                  : leader_->call("duplicate a pidfd", SYS_dup, helper_);
  return static_cast<int>(number);
}

void Skeleton::join_time_namespace(pid_t helper, int time_namespace) {
  const int maker = open_helper(helper);
  const long here = leader_->call("take over the time namespace", SYS_pidfd_getfd, maker, time_namespace, 0);
  Batch batch(scratch_);
  batch.add("enter the time namespace", SYS_setns, here, CLONE_NEWTIME);
  batch.add("close the time namespace", SYS_close, here);
  batch.add("close a pidfd", SYS_close, maker);
  leader_->run(batch);
}

// As its tracer we have to take notice of the end of each thread, the first one's last; then it is a zombie of its
// parent.
void Skeleton::kill() noexcept {
  if (leader_) leader_->forget();
  if (!pidfd_) return;
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  for (int i = 0; i < 5000; i++) {
    try {
      for (const pid_t tid : proc::Reader(pid_).threads()) ::waitpid(tid, nullptr, __WALL | WNOHANG);
    } catch (const std::exception&) {  // it has gone
    }
    if (::poll(&ended, 1, i < 100 ? 0 : 1) == 1) break;
  }
  ::waitpid(pid_, nullptr, __WALL | WNOHANG);
}

Skeleton::~Skeleton() {
  if (!dismissed_) kill();
}

void Skeleton::end(int status) {
  Doing doing("ending process {}", guest_pid());
  if (!WIFEXITED(status) && !(WIFSIGNALED(status) && is_fatal(WTERMSIG(status))))
    fail(Errc::image_corrupt, "nothing ends with status {:#x}", status);
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
    constexpr std::uint64_t as_by_default[4] = {};
    Batch batch(scratch_);  // the engine may ignore it
    batch.add("forget a disposition", SYS_rt_sigaction, WTERMSIG(status), batch.put(as_by_default), 0,
              sizeof(std::uint64_t));
    batch.add("dump no core", SYS_prctl, PR_SET_DUMPABLE, 0);
    leader_->run(batch);
  }
  leader_->forget();
  dismissed_ = true;
  if (WIFSIGNALED(status)) {
    set_sigmask(pid_, 0);
    check(::kill(pid_, WTERMSIG(status)), "kill process {}", guest_pid());
    if (WTERMSIG(status) != SIGKILL) trace(PTRACE_CONT, pid_, 0, 0, "continue");  // which no stop holds up
  } else {
    Regs regs = get_regs(pid_);
    regs.rip = raw(scratch_);  // the stub begins with a `syscall` instruction
    regs.rax = SYS_exit_group;
    regs.orig_rax = ~0ull;
    regs.rdi = static_cast<std::uint64_t>(WEXITSTATUS(status));
    set_regs(pid_, regs);
    trace(PTRACE_CONT, pid_, 0, 0, "continue");
  }
  for (;;) {
    const Stop stop = wait_stop(pid_);
    if (stop.gone()) return;
    trace(PTRACE_CONT, pid_, 0, static_cast<unsigned long>(stop.trap_stop() ? 0 : stop.signal()), "continue");
  }
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
  if (!uses_others_memory_) leader_->call("unmap scratch memory", SYS_munmap, scratch_, ScratchLayout::size);
}

}  // namespace godwit::engine
