#include "agent/engine/restore/task_restore.h"

#include "agent/engine/ptrace/call_notes.h"
#include "agent/engine/ptrace/tracing.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/restore/interrupted.h"
#include "agent/engine/restore/pid_holder.h"
#include "agent/engine/restore/placed_locks.h"
#include "agent/engine/restore/set_tid.h"
#include "agent/engine/restore/thread_plan.h"
#include "agent/engine/tasks/bounds.h"
#include "agent/engine/tasks/call_restart.h"
#include "agent/engine/tasks/credentials.h"
#include "agent/engine/tasks/limits.h"
#include "agent/engine/tasks/memory_policy.h"
#include "agent/engine/tasks/process_flags.h"
#include "agent/engine/tasks/registers.h"
#include "agent/engine/tasks/scheduling.h"
#include "agent/engine/tasks/signals.h"
#include "agent/engine/tasks/thread_flags.h"
#include "agent/engine/tasks/thread_links.h"
#include "agent/engine/tasks/timers.h"
#include "agent/engine/tasks/vdso_symbols.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/image/filelock.pb.h"
#include "common/image/files.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/task_state.h"
#include "common/image/timens.pb.h"
#include "common/image/vma_status.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <ranges>

#include <linux/sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

namespace godwit::engine {
namespace {

constexpr int clone_ptrace = 0x2000;

// As long as it is traced its filters, also those that it only gets, do not see our calls; whoever it makes is traced
// like it.
void pass_filters(pid_t tid) {
  trace(PTRACE_SETOPTIONS, tid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP,
        "suspend the seccomp filters of");
}

}  // namespace

TaskRestore::TaskRestore(Skeleton& skeleton, const image::ImageSet& images, const resources::FilePaths& paths,
                         const tasks::filters::Stored& filters, tasks::bounds::KernelAreas& areas,
                         const ProcessPlan& plan)
    : skeleton_(&skeleton),
      images_(&images),
      paths_(&paths),
      filters_(&filters),
      areas_(&areas),
      numa_(skeleton.pid()),
      uses_others_memory_(plan.memory_of != 0) {
  const auto pid = static_cast<std::uint64_t>(skeleton.guest_pid());
  mm_ = &images.view<image::MmEntry>(image::Kind::mm,
                                     uses_others_memory_ ? static_cast<std::uint64_t>(plan.memory_of) : pid);
  ids_ = images.get<image::TaskKobjIdsEntry>(image::Kind::ids, pid);
  threads_.reserve(plan.threads.size());
  for (const pid_t tid : plan.threads) {
    Thread t;
    t.guest = tid;
    t.names = plan.names_of(tid);
    t.core = &images.view<image::CoreEntry>(image::Kind::core, static_cast<std::uint64_t>(tid));
    t.regs = tasks::call_restart::restore(tasks::registers::restore(t.core->thread_info()), t.core->thread_core());
    threads_.push_back(std::move(t));
  }
  const auto leader = std::ranges::find(threads_, skeleton.guest_pid(), &Thread::guest);
  if (leader == threads_.end())
    fail(Errc::image_corrupt, "pstree.img does not list the first thread of process {}", skeleton.guest_pid());
  std::iter_swap(threads_.begin(), leader);
}

void TaskRestore::note(std::vector<std::string> more) {
  for (std::string& s : more) notices_.push_back(std::move(s));
}

std::vector<pid_t> TaskRestore::host_tids() const {
  std::vector<pid_t> all;
  for (const Thread& t : threads_) all.push_back(t.host);
  return all;
}

std::vector<pid_t> TaskRestore::guest_tids() const {
  std::vector<pid_t> all;
  for (const Thread& t : threads_) all.push_back(t.guest);
  return all;
}

std::string TaskRestore::vdso_functions() const {
  const std::string& vdso = skeleton_->memory().vdso();
  if (vdso.empty()) return {};  // not among the dumped pages
  const Doing doing("the pages of the vdso, in pagemap-{}.img", skeleton_->guest_pid());
  return tasks::vdso_symbols(vdso);
}

bool TaskRestore::was_stopped() const { return leader_core().tc().task_state() == image::task_state::stopped; }

void TaskRestore::address_space() {
  if (uses_others_memory_) return;
  RemoteSyscalls& remote = skeleton_->leader();
  {
    const Doing doing("mm-{}.img", skeleton_->guest_pid());
    skeleton_->memory().finish({mm_->vmas().begin(), mm_->vmas().end()});
  }
  Batch batch(skeleton_->scratch());
  tasks::bounds::KernelAreas::restore(batch, *mm_);
  const std::string path = resources::path_of(*paths_, mm_->exe_file_id());
  const std::size_t exe = batch.add(fmt::format("open {}", path), SYS_openat, AT_FDCWD,
                                    batch.put(std::string_view(path)), O_RDONLY | O_CLOEXEC, 0);
  remote.run(batch);
  areas_->check(remote, *mm_, vdso_functions());
  const int number = static_cast<int>(batch.result(exe));
  batch.clear();
  tasks::bounds::restore(batch, *mm_, number);
  batch.add("close the executable", SYS_close, number);
  remote.run(batch);
}

void TaskRestore::unshare(std::uint64_t what) {
  skeleton_->leader().call("leave what it was born with", SYS_unshare, what);
}

// The table is copied from that of a process that has it; what descriptor a call returns is the lowest free number, so
// it is known before.
void TaskRestore::descriptors(Helper& helper) {
  Doing doing("the descriptors of process {}", skeleton_->guest_pid());
  RemoteSyscalls& remote = skeleton_->leader();
  const std::vector<std::pair<int, bool>> wanted = resources::descriptors_of(*images_, ids_.files_id());
  helper.place(ids_.files_id(), skeleton_->guest_pid());
  const int above = std::max(3, wanted.empty() ? 0 : wanted.back().first + 1);
  Batch batch(skeleton_->scratch());
  const auto add = [&](std::string_view what, long nr, auto... args) {
    if (!batch.fits(1)) {
      remote.run(batch);
      batch.clear();
    }
    batch.add(what, nr, args...);
  };
  if (const int kept = skeleton_->kept_helper(); kept >= 0) {
    if (kept != above) add("put the helper out of the way", SYS_dup3, kept, above, O_CLOEXEC);
    add("close what it has", SYS_close_range, 0, above - 1, 0);
    add("close what it has", SYS_close_range, above + 1, ~0u, 0);
  } else {
    add("close what it has", SYS_close_range, 0, ~0u, 0);
    add("open the holder of its descriptors", SYS_pidfd_open, helper.guest_pid(), 0);  // 0
    add("put that out of the way", SYS_dup3, 0, above, O_CLOEXEC);
    add("close a pidfd", SYS_close, 0);
  }
  int lowest_free = 0;
  for (const auto& [number, close_on_exec] : wanted) {
    add("take over a descriptor", SYS_pidfd_getfd, above, number, 0);  // closed on exec
    if (number == lowest_free) {
      lowest_free++;
      if (!close_on_exec) add("keep a descriptor on exec", SYS_fcntl, number, F_SETFD, 0);
    } else {
      add("place a descriptor", SYS_dup3, lowest_free, number, close_on_exec ? O_CLOEXEC : 0);
      add("close where it came", SYS_close, lowest_free);
    }
  }
  add("close a pidfd", SYS_close, above);
  remote.run(batch);
}

// Before anything of the tree runs: others may test them at once.
void TaskRestore::locks() {
  std::vector<image::FileLockEntry> own;
  for (auto& lock : images_->records<image::FileLockEntry>(image::Kind::file_locks))
    if (lock.pid() == skeleton_->guest_pid()) own.push_back(std::move(lock));
  if (own.empty()) return;
  Doing doing("the file locks of process {}", skeleton_->guest_pid());
  placed_locks::restore(skeleton_->leader(), skeleton_->scratch(), own);
}

// While its table has room below: called before descriptors().
void TaskRestore::places() {
  const resources::Places p = resources::places_of(*images_, *paths_, skeleton_->guest_pid());
  RemoteSyscalls& remote = skeleton_->leader();
  Batch batch(skeleton_->scratch());
  batch.add("set the umask", SYS_umask, p.umask);
  if (p.root == "/") {
    batch.add(fmt::format("enter {}", p.cwd), SYS_chdir, batch.put(std::string_view(p.cwd)));
    remote.run(batch);
    return;
  }
  const std::size_t open = batch.add(fmt::format("open {}", p.cwd), SYS_openat, AT_FDCWD,
                                     batch.put(std::string_view(p.cwd)), O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  remote.run(batch);
  const long cwd = batch.result(open);
  batch.clear();
  batch.add(fmt::format("change the root directory to {}", p.root), SYS_chroot, batch.put(std::string_view(p.root)));
  batch.add("enter the working directory", SYS_fchdir, cwd);
  batch.add("close it", SYS_close, cwd);
  remote.run(batch);
}

void TaskRestore::process() {
  RemoteSyscalls& remote = skeleton_->leader();
  const RemoteAddr scratch = skeleton_->scratch();
  Batch batch(scratch);
  tasks::signals::restore_actions(batch, leader_core().tc());
  tasks::process_flags::restore(batch, leader_core().tc(), *mm_);
  remote.run(batch);
  if (!uses_others_memory_) {
    tasks::process_flags::restore_merging(remote, scratch, *mm_);
    tasks::process_flags::restore_future_locks(remote, *mm_);
  }
  tasks::process_flags::restore_loginuid(remote, scratch, leader_core().tc(), notices_);
}

void TaskRestore::make_threads() {
  threads_[0].host = skeleton_->pid();
  threads_[0].remote = &skeleton_->leader();
  std::vector<tasks::filters::Chain> chains;
  for (const Thread& t : threads_) {
    Doing doing("{}", image::file_name(image::Kind::core, static_cast<std::uint64_t>(t.guest)));
    chains.push_back(filters_->chain_of(t.core->thread_core(), leader_core().thread_core()));
  }
  for (const ThreadStep& step : plan_threads(chains)) {
    clone_threads(threads_[step.maker], step.made);
    if (step.adds) add_filter(threads_[step.maker], *step.adds);
  }
}

void TaskRestore::add_filter(const Thread& t, std::uint32_t number) {
  Doing doing("{}: filter {}, thread {}", image::file_name(image::Kind::seccomp, 0), number, t.guest);
  pass_filters(t.host);
  Batch batch(skeleton_->scratch());
  filters_->restore(batch, number);
  t.remote->run(batch);
}

// All at once; CLONE_PTRACE attaches them without a stop of their maker.
void TaskRestore::clone_threads(const Thread& maker, const std::vector<std::size_t>& born) {
  if (born.empty()) return;
  Batch batch(skeleton_->scratch());
  std::vector<std::pair<pid_t, std::size_t>> made;  // TID and call
  const auto run = [&] {
    maker.remote->run(batch);
    const bool nested = skeleton_->names().size() > 1;
    for (const auto& [tid, call] : made)
      if (batch.result(call) == -EEXIST)
        throw Error(
            Errc::already_exists,
            fmt::format("TID {} is taken by {}", tid, nested ? "another process" : pid_holder(tid, skeleton_->pid())),
            "restore in a PID namespace of its own, or end the process that has it");
      else if (batch.result(call) < 0)
        throw syscall_error(static_cast<int>(-batch.result(call)), fmt::format("make thread {}", tid));
    made.clear();
    batch.clear();
  };
  for (const std::size_t i : born) {
    const Thread& t = threads_[i];
    clone_args a{};
    a.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | clone_ptrace;
    if (t.core->thread_info().clear_tid_addr()) {
      a.flags |= CLONE_CHILD_CLEARTID;
      a.child_tid = t.core->thread_info().clear_tid_addr();
    }
    put_names(batch, t.names, a);
    const RemoteAddr at = batch.put(a);
    made.emplace_back(t.guest, batch.attempt("make a thread", SYS_clone3, at, sizeof a));
    if (!batch.fits(1, 256)) run();  // here, so that the TID of a call is in its data
  }
  run();
  find_threads(born);
}

// By guest TID.
std::map<pid_t, pid_t> TaskRestore::hosts_of_threads() const {
  std::map<pid_t, pid_t> hosts;
  for (const pid_t tid : proc::Reader(skeleton_->pid()).threads()) {
    const proc::Status s = proc::Reader(skeleton_->pid(), tid).status();
    hosts[s.ns_pid.empty() ? tid : skeleton_->name_in_tree(s.ns_pid)] = tid;
  }
  return hosts;
}

void TaskRestore::find_threads(const std::vector<std::size_t>& born) {
  std::map<pid_t, pid_t> hosts;
  if (!skeleton_->in_our_namespace()) hosts = hosts_of_threads();
  for (const std::size_t i : born) {
    Thread& t = threads_[i];
    t.host = t.guest;
    if (!skeleton_->in_our_namespace()) {
      const auto it = hosts.find(t.guest);
      if (it == hosts.end()) fail(Errc::internal, "thread {} is not there", t.guest);
      t.host = it->second;
    }
    const Stop stop = wait_stop(t.host);
    if (!stop.trap_stop()) fail(Errc::internal, "thread {} began with status {:#x}", t.guest, stop.raw());
    set_sigmask(t.host, all_signals);
    t.owned = std::make_unique<RemoteSyscalls>(skeleton_->pid(), t.host, skeleton_->scratch());
    t.remote = t.owned.get();
  }
}

void TaskRestore::threads() {
  // Limits before credentials, which take the right to raise them; after the descriptors, which may exceed them.
  note(tasks::limits::restore(skeleton_->pid(), leader_core().tc().rlimits()));
  fault::point("engine.restore.threads");
  for (Thread& t : threads_) restore_thread(t);
}

void TaskRestore::restore_thread(Thread& t) {
  Doing doing("{}: thread {}", image::file_name(image::Kind::core, static_cast<std::uint64_t>(t.guest)), t.guest);
  const bool leader = &t == &threads_.front();
  const pid_t pid = skeleton_->names().back(), tid = t.names.back();
  Batch batch(skeleton_->scratch());
  tasks::thread_links::restore(batch, *t.core, leader);
  tasks::thread_flags::restore(batch, t.core->thread_core());
  tasks::signals::restore_stack(batch, t.core->thread_core());
  tasks::scheduling::restore(batch, t.core->thread_core());
  tasks::memory_policy::restore(batch, t.core->thread_core(), numa_);
  // The alternate stack and the queue are the thread's; the process's queue is filled by the leader.
  tasks::signals::restore_queue(batch, SignalQueue::thread, pid, tid, t.core->thread_core().signals_p());
  if (leader) tasks::signals::restore_queue(batch, SignalQueue::process, pid, tid, leader_core().tc().signals_s());
  tasks::credentials::restore(batch, t.core->thread_core().creds());
  if (leader) tasks::process_flags::restore_dumpable(batch, *mm_);
  tasks::thread_links::restore_parent_death(batch, *t.core);
  if (t.core->thread_core().seccomp_mode() == image::SECCOMP_STRICT) pass_filters(t.host);
  tasks::filters::restore_strict(batch, t.core->thread_core());
  t.remote->run(batch);
}

// No thread can be made any more after that.
void TaskRestore::namespace_of_children(const Skeleton* init) {
  RemoteSyscalls& remote = skeleton_->leader();
  if (!init) {
    remote.call("let children be born in a PID namespace", SYS_unshare, CLONE_NEWPID);
    return;
  }
  const long pidfd = remote.call("open an init", SYS_pidfd_open, skeleton_->name_here(init->names()), 0);
  remote.call("let children be born in a PID namespace", SYS_setns, pidfd, CLONE_NEWPID);
  remote.call("close a pidfd", SYS_close, pidfd);
}

// What it calls a thread that the tree calls `tid`.
pid_t TaskRestore::name_of(pid_t tid) const {
  const auto it = std::ranges::find(threads_, tid, &Thread::guest);
  return it == threads_.end() ? tid : it->names.back();
}

void TaskRestore::timers() {
  restore_sleeps();
  Batch batch(skeleton_->scratch());
  image::TaskTimersEntry timers = leader_core().tc().timers();
  for (image::PosixTimerEntry& timer : *timers.mutable_posix())
    if (timer.has_notify_thread_id()) timer.set_notify_thread_id(name_of(timer.notify_thread_id()));
  tasks::timers::restore(batch, timers);
  skeleton_->leader().run(batch);
}

void TaskRestore::restore_sleeps() {
  std::vector<CallNote> notes;
  for (Thread& t : threads_) {
    const image::ThreadCoreEntry& entry = t.core->thread_core();
    const long number = interrupted::rearm(*t.remote, skeleton_->scratch(), entry, t.regs);
    if (number >= 0) notes.push_back({t.host, number, t.regs.rip, t.regs.rsp, monotonic_ns() - entry.slept_ns()});
  }
  if (!notes.empty()) keep_notes(skeleton_->pid(), proc::Reader(skeleton_->pid()).stat().start_time, notes);
}

// Any thread may take a SIGSTOP, which becomes the signal that it was. The kernel drops the others in an orphaned
// group, so the leader is interrupted beforehand: nothing of the program runs, whatever becomes of the signal.
bool TaskRestore::stop_leader(int number) {
  const pid_t leader = threads_.front().host;
  check(::syscall(SYS_tgkill, skeleton_->pid(), leader, SIGSTOP), "send SIGSTOP");
  take_signal(leader, SIGSTOP);
  trace(PTRACE_INTERRUPT, leader, 0, 0, "interrupt");
  trace(PTRACE_CONT, leader, 0, static_cast<unsigned long>(number), "stop");
  const Stop stopped = wait_stop(leader);
  if (!stopped.trap_stop()) fail(Errc::internal, "thread {} stopped with status {:#x}", leader, stopped.raw());
  return stopped.signal() == number;
}

// All threads have to go on to take part in the stop.
void TaskRestore::stop() {
  Doing doing("stopping process {}", skeleton_->guest_pid());
  int number = leader_core().tc().has_stop_signo() ? static_cast<int>(leader_core().tc().stop_signo()) : SIGSTOP;
  if (number != SIGSTOP && number != SIGTSTP && number != SIGTTIN && number != SIGTTOU)
    fail(Errc::image_corrupt, "signal {} stops nobody", number);
  const pid_t leader = threads_.front().host;
  const std::uint64_t mask = get_sigmask(leader);
  set_sigmask(leader, all_signals & ~signal_bit(number));
  if (!stop_leader(number)) {
    number = SIGSTOP;
    if (!stop_leader(number)) fail(Errc::internal, "it does not stop");
  }
  for (const Thread& t : threads_ | std::views::drop(1)) {
    trace(PTRACE_CONT, t.host, 0, 0, "continue");
    const Stop stopped = wait_stop(t.host);
    if (!stopped.trap_stop() || stopped.signal() != number)
      fail(Errc::internal, "thread {} stopped with status {:#x}", t.guest, stopped.raw());
  }
  set_sigmask(leader, mask);
}

void TaskRestore::child_has_stopped(const Skeleton& child, bool seen) {
  Batch batch(skeleton_->scratch());
  if (seen)
    batch.add("wait for a child's stop", SYS_waitid, P_PID, skeleton_->name_here(child.names()), 0, WSTOPPED | WNOHANG,
              0);
  if (!tasks::signals::has(leader_core().tc().signals_s(), SIGCHLD)) {  // else the second one is not queued
    const RemoteAddr set = batch.put(signal_bit(SIGCHLD)), no_time = batch.put(timespec{});
    batch.attempt("take a signal", SYS_rt_sigtimedwait, set, 0, no_time, sizeof(std::uint64_t));
  }
  skeleton_->leader().run(batch);
}

void TaskRestore::registers() {
  const auto vdso = std::ranges::find_if(  // where it is indeed: address_space() has looked
      mm_->vmas(), [](const image::VmaEntry& e) { return (e.status() & image::vma_status::vdso) != 0; });
  if (vdso == mm_->vmas().end()) fail(Errc::unsupported, "the process has no vdso");
  skeleton_->drop_scratch(
      find_syscall_instruction(skeleton_->pid(), RemoteAddr{vdso->start()}, RemoteAddr{vdso->end()}));
  if (!uses_others_memory_) tasks::process_flags::restore_write_or_execute(skeleton_->leader(), *mm_);
  for (Thread& t : threads_) {
    t.remote->set_saved(t.regs);
    t.remote->end();
    if (&t == &threads_.front())
      tasks::signals::restore_continue(SignalQueue::process, t.host, t.host, leader_core().tc().signals_s());
    tasks::signals::restore_continue(SignalQueue::thread, skeleton_->pid(), t.host, t.core->thread_core().signals_p());
    tasks::registers::restore_xstate(t.host, t.core->thread_info());
    set_regs(t.host, t.regs);
    set_sigmask(t.host, t.core->thread_core().has_blk_sigset() ? t.core->thread_core().blk_sigset()
                                                               : t.core->tc().blk_sigset());
    note(tasks::scheduling::restore_last(t.host, t.core->thread_core()));
  }
  note(tasks::process_flags::restore_outside(skeleton_->pid(), leader_core().tc()));
}

}  // namespace godwit::engine
