#include "agent/engine/restore/task_restore.h"

#include "agent/engine/ptrace/call_notes.h"
#include "agent/engine/ptrace/pin.h"
#include "agent/engine/ptrace/tracing.h"
#include "agent/engine/restore/interrupted.h"
#include "agent/engine/restore/pid_holder.h"
#include "agent/engine/tasks/bounds.h"
#include "agent/engine/tasks/call_restart.h"
#include "agent/engine/tasks/credentials.h"
#include "agent/engine/tasks/limits.h"
#include "agent/engine/tasks/process_flags.h"
#include "agent/engine/tasks/registers.h"
#include "agent/engine/tasks/scheduling.h"
#include "agent/engine/tasks/signals.h"
#include "agent/engine/tasks/thread_flags.h"
#include "agent/engine/tasks/thread_links.h"
#include "agent/engine/tasks/timers.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/image/files.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/timens.pb.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <map>

#include <linux/sched.h>
#include <sys/syscall.h>
#include <time.h>

namespace godwit::engine {
namespace {

constexpr int clone_ptrace = 0x2000;
constexpr std::uint32_t task_stopped = 3;  // TaskCoreEntry.task_state

struct Thread {
  pid_t host = 0, guest = 0;
  image::CoreEntry core;
  std::unique_ptr<RemoteSyscalls> owned;  // of all but the leader
  RemoteSyscalls* remote = nullptr;
  Regs regs{};
};

struct Context {
  Skeleton& skeleton;
  const image::ImageSet& images;
  pid_t guest_pid;
  image::MmEntry mm;
  image::CoreEntry leader;
  std::uint32_t files_id = 0;
  std::vector<Thread> threads;
  std::vector<std::string> notices;
};

void add_all(std::vector<std::string>& to, std::vector<std::string> more) {
  for (std::string& s : more) to.push_back(std::move(s));
}

std::string path_of(const image::ImageSet& images, std::uint32_t file_id) {
  for (const image::FileEntry& f : images.records<image::FileEntry>(image::Kind::files))
    if (f.id() == file_id) return f.reg().name();
  fail(Errc::image_corrupt, "files.img has no file {}", file_id);
}

void restore_bounds(Context& c) {
  RemoteSyscalls& remote = c.skeleton.leader();
  tasks::bounds::restore_vdso(remote, c.skeleton.scratch(), c.mm, c.skeleton.memory().vdso());
  Batch batch(c.skeleton.scratch());
  const std::string path = path_of(c.images, c.mm.exe_file_id());
  const std::size_t exe = batch.add(fmt::format("open {}", path), SYS_openat, AT_FDCWD,
                                    batch.put(std::string_view(path)), O_RDONLY | O_CLOEXEC, 0);
  remote.run(batch);
  const int number = static_cast<int>(batch.result(exe));
  batch.clear();
  tasks::bounds::restore(batch, c.mm, number);
  batch.add("close the executable", SYS_close, number);
  remote.run(batch);
}

// The clocks of two hosts differ, and deadlines that the task keeps in its memory must stay true: it gets a time
// namespace whose clocks go on where the source's stopped. Not when ours are a little ahead: a pause looks the same.
void restore_clocks(Context& c) {
  image::TaskCoreEntry tc = c.leader.tc();
  if (!tc.has_monotonic_ns()) {  // CRIU's images have them to themselves
    const std::vector<std::uint64_t> ids = c.images.ids(image::Kind::timens);
    if (ids.empty()) return;
    const auto clocks = c.images.get<image::TimensEntry>(image::Kind::timens, ids.front());
    tc.set_monotonic_ns(clocks.monotonic().tv_sec() * 1'000'000'000u + clocks.monotonic().tv_nsec());
    tc.set_boottime_ns(clocks.boottime().tv_sec() * 1'000'000'000u + clocks.boottime().tv_nsec());
  }
  constexpr std::uint64_t close_enough = 60'000'000'000;
  timespec boot{};
  ::clock_gettime(CLOCK_BOOTTIME, &boot);
  const std::uint64_t boot_ns =
      static_cast<std::uint64_t>(boot.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(boot.tv_nsec);
  const bool fits = monotonic_ns() - tc.monotonic_ns() < close_enough && boot_ns - tc.boottime_ns() < close_enough;
  if (fits) return;
  const int ns = c.skeleton.helper().time_namespace(tc.monotonic_ns(), tc.boottime_ns());
  Batch batch(c.skeleton.scratch());
  batch.add("enter the time namespace", SYS_setns, ns, CLONE_NEWTIME);
  batch.add("close the time namespace", SYS_close, ns);
  c.skeleton.leader().run(batch);
}

void restore_descriptors(Context& c) {
  c.skeleton.helper().restore_fds(c.images, c.files_id, c.guest_pid, c.skeleton.memory().segments());
}

void restore_process(Context& c) {
  Batch batch(c.skeleton.scratch());
  tasks::signals::restore_actions(batch, c.leader.tc());
  tasks::process_flags::restore(batch, c.leader.tc(), c.mm);
  c.skeleton.leader().run(batch);
  tasks::process_flags::restore_merging(c.skeleton.leader(), c.skeleton.scratch(), c.mm);
  tasks::process_flags::restore_loginuid(c.skeleton.leader(), c.skeleton.scratch(), c.leader.tc(), c.notices);
}

// All threads at once; CLONE_PTRACE attaches them without a stop of their maker.
void clone_threads(Context& c) {
  RemoteSyscalls& remote = c.skeleton.leader();
  Batch batch(c.skeleton.scratch());
  std::vector<std::pair<pid_t, std::size_t>> made;  // TID and call
  const auto run = [&] {
    remote.run(batch);
    for (const auto& [tid, call] : made)
      if (batch.result(call) == -EEXIST)
        throw Error(Errc::already_exists, fmt::format("TID {} is taken by {}", tid, pid_holder(tid, c.skeleton.pid())),
                    "restore in a PID namespace of its own, or end the process that has it");
      else if (batch.result(call) < 0)
        throw syscall_error(static_cast<int>(-batch.result(call)), fmt::format("make thread {}", tid));
    made.clear();
    batch.clear();
  };
  for (std::size_t i = 1; i < c.threads.size(); i++) {
    const Thread& t = c.threads[i];
    clone_args a{};
    a.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | clone_ptrace;
    if (t.core.thread_info().clear_tid_addr()) {
      a.flags |= CLONE_CHILD_CLEARTID;
      a.child_tid = t.core.thread_info().clear_tid_addr();
    }
    a.set_tid = raw(batch.put(t.guest));
    a.set_tid_size = 1;
    const RemoteAddr at = batch.put(a);
    made.emplace_back(t.guest, batch.attempt("make a thread", SYS_clone3, at, sizeof a));
    if (!batch.fits(1, 256)) run();  // here, so that the TID of a call is in its data
  }
  run();
  std::map<pid_t, pid_t> hosts;  // by guest TID
  for (const pid_t tid : proc::Reader(c.skeleton.pid()).threads()) {
    if (c.threads.size() == 1) break;
    const proc::Status s = proc::Reader(c.skeleton.pid(), tid).status();
    hosts[s.ns_pid.empty() ? tid : s.ns_pid.back()] = tid;
  }
  c.threads[0].host = c.skeleton.pid();
  c.threads[0].remote = &remote;
  for (std::size_t i = 1; i < c.threads.size(); i++) {
    Thread& t = c.threads[i];
    const auto it = hosts.find(t.guest);
    if (it == hosts.end()) fail(Errc::internal, "thread {} is not there", t.guest);
    t.host = it->second;
    const Stop stop = wait_stop(t.host);
    if (!stop.trap_stop()) fail(Errc::internal, "thread {} began with status {:#x}", t.guest, stop.raw());
    set_sigmask(t.host, all_signals);
    t.owned = std::make_unique<RemoteSyscalls>(c.skeleton.pid(), t.host, c.skeleton.scratch());
    t.remote = t.owned.get();
  }
}

void restore_thread(Context& c, Thread& t) {
  Doing doing("thread {}", t.guest);
  const bool leader = &t == &c.threads.front();
  Batch batch(c.skeleton.scratch());
  tasks::thread_links::restore(batch, t.core, leader);
  tasks::thread_flags::restore(batch, t.core.thread_core());
  tasks::signals::restore_stack(batch, t.core.thread_core());
  tasks::scheduling::restore(batch, t.core.thread_core());
  // The alternate stack and the queue are the thread's; the process's queue is filled by the leader.
  tasks::signals::restore_queue(batch, SignalQueue::thread, c.guest_pid, t.guest, t.core.thread_core().signals_p());
  if (leader)
    tasks::signals::restore_queue(batch, SignalQueue::process, c.guest_pid, t.guest, c.leader.tc().signals_s());
  tasks::credentials::restore(batch, t.core.thread_core().creds());
  if (leader) tasks::process_flags::restore_dumpable(batch, c.mm);
  tasks::thread_links::restore_parent_death(batch, t.core);
  t.remote->run(batch);
}

void restore_sleeps(Context& c) {
  std::vector<CallNote> notes;
  for (Thread& t : c.threads) {
    const image::ThreadCoreEntry& entry = t.core.thread_core();
    const long number = interrupted::rearm(*t.remote, c.skeleton.scratch(), entry, t.regs);
    if (number >= 0) notes.push_back({t.host, number, t.regs.rip, t.regs.rsp, monotonic_ns() - entry.slept_ns()});
  }
  keep_notes(c.skeleton.pid(), proc::Reader(c.skeleton.pid()).stat().start_time, notes);
}

void restore_timers(Context& c) {
  Batch batch(c.skeleton.scratch());
  tasks::timers::restore(batch, c.leader.tc().timers());
  c.skeleton.leader().run(batch);
}

void restore_registers(Context& c) {
  const std::vector<proc::Vma> maps = proc::Reader(c.skeleton.pid()).maps();
  const auto vdso = std::ranges::find(maps, proc::VmaName::vdso, &proc::Vma::kind);
  if (vdso == maps.end()) fail(Errc::unsupported, "the process has no vdso");
  c.skeleton.drop_scratch(find_syscall_instruction(c.skeleton.pid(), RemoteAddr{vdso->start}, RemoteAddr{vdso->end}));
  tasks::process_flags::restore_write_or_execute(c.skeleton.leader(), c.mm);
  for (Thread& t : c.threads) {
    t.remote->set_saved(t.regs);
    t.remote->end();
    if (&t == &c.threads.front())
      tasks::signals::restore_continue(SignalQueue::process, t.host, t.host, c.leader.tc().signals_s());
    tasks::signals::restore_continue(SignalQueue::thread, c.skeleton.pid(), t.host, t.core.thread_core().signals_p());
    tasks::registers::restore_xstate(t.host, t.core.thread_info());
    set_regs(t.host, t.regs);
    set_sigmask(t.host,
                t.core.thread_core().has_blk_sigset() ? t.core.thread_core().blk_sigset() : t.core.tc().blk_sigset());
    add_all(c.notices, tasks::scheduling::restore_last(t.host, t.core.thread_core()));
  }
  add_all(c.notices, tasks::process_flags::restore_outside(c.skeleton.pid(), c.leader.tc()));
}

Context read_context(Skeleton& skeleton, const image::ImageSet& images, pid_t guest_pid) {
  Context c{.skeleton = skeleton, .images = images, .guest_pid = guest_pid, .mm = {}, .leader = {}};
  c.mm = images.get<image::MmEntry>(image::Kind::mm, static_cast<std::uint64_t>(guest_pid));
  const auto ids = images.get<image::TaskKobjIdsEntry>(image::Kind::ids, static_cast<std::uint64_t>(guest_pid));
  c.files_id = ids.files_id();
  for (const image::PstreeEntry& p : images.records<image::PstreeEntry>(image::Kind::pstree))
    for (const std::uint32_t tid : p.threads()) {
      Thread t;
      t.guest = static_cast<pid_t>(tid);
      t.core = images.get<image::CoreEntry>(image::Kind::core, tid);
      t.regs = tasks::call_restart::restore(tasks::registers::restore(t.core.thread_info()), t.core.thread_core());
      c.threads.push_back(std::move(t));
    }
  const auto leader = std::ranges::find(c.threads, guest_pid, &Thread::guest);
  if (leader == c.threads.end())
    fail(Errc::image_corrupt, "pstree.img does not list the first thread of process {}", guest_pid);
  std::iter_swap(c.threads.begin(), leader);
  c.leader = c.threads.front().core;
  return c;
}

}  // namespace

RestoredTask restore_task(Skeleton& skeleton, const image::ImageSet& images, pid_t guest_pid, Steps& steps) {
  Doing doing("restoring process {}", guest_pid);
  const Pin pin;
  pin.bring(skeleton.pid());  // its affinity is restored in the end
  Context c = read_context(skeleton, images, guest_pid);

  skeleton.memory().finish();
  restore_bounds(c);
  restore_clocks(c);  // while there is one thread
  steps.lap("address space");

  restore_descriptors(c);
  steps.lap("descriptors");
  fault::point("engine.restore.fds");

  restore_process(c);
  clone_threads(c);
  // Limits before credentials, which take the right to raise them; after the descriptors, which may exceed them.
  add_all(c.notices, tasks::limits::restore(skeleton.pid(), c.leader.tc().rlimits()));
  fault::point("engine.restore.threads");
  for (Thread& t : c.threads) restore_thread(c, t);
  steps.lap("threads");

  restore_sleeps(c);
  restore_timers(c);
  steps.lap("timers");

  restore_registers(c);
  fault::point("engine.restore.registers");
  steps.lap("registers");

  RestoredTask task;
  for (const Thread& t : c.threads) task.threads.push_back(t.host);
  task.notices = std::move(c.notices);
  task.stopped = c.leader.tc().task_state() == task_stopped;
  return task;
}

}  // namespace godwit::engine
