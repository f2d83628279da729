#include "agent/engine/task_dump.h"

#include "agent/engine/tasks/bounds.h"
#include "agent/engine/tasks/call_restart.h"
#include "agent/engine/tasks/credentials.h"
#include "agent/engine/tasks/hidden.h"
#include "agent/engine/tasks/limits.h"
#include "agent/engine/tasks/memory_policy.h"
#include "agent/engine/tasks/process_flags.h"
#include "agent/engine/tasks/registers.h"
#include "agent/engine/tasks/scheduling.h"
#include "agent/engine/tasks/signals.h"
#include "agent/engine/tasks/thread_flags.h"
#include "agent/engine/tasks/thread_links.h"
#include "agent/engine/tasks/timers.h"
#include "common/base/fault.h"
#include "common/image/inventory.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/task_state.h"
#include "common/image/timens.pb.h"
#include "common/image/unknown_fields.h"
#include "common/proc/reader.h"

#include <sys/syscall.h>
#include <time.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t user_code_64 = 0x33;  // segment selector

image::TaskKobjIdsEntry ids_of(const resources::StoppedTask& task) {
  image::TaskKobjIdsEntry ids;
  ids.set_vm_id(task.memory_id);
  ids.set_files_id(task.files_id);
  ids.set_fs_id(task.fs_id);
  ids.set_sighand_id(task.handlers_id);
  return ids;
}

// As the task sees it: a time namespace of its own may shift it.
void ask_clock(tasks::Inquiry& ask, clockid_t clock, image::TaskCoreEntry& tc,
               void (image::TaskCoreEntry::*set)(std::uint64_t)) {
  const RemoteAddr at = ask.batch().reserve(sizeof(timespec));
  ask.batch().add("read a clock", SYS_clock_gettime, clock, at);
  ask.then([&tc, set, at](const Batch& b) {
    const auto t = b.read<timespec>(at);
    (tc.*set)(static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec));
  });
}

void dump_process(Hold& hold, const proc::Reader& proc, const proc::Stat& stat, resources::FileIds& ids,
                  tasks::Inquiry& ask, TaskState& state, image::CoreEntry& core) {
  image::TaskCoreEntry& tc = *core.mutable_tc();
  tc.set_task_state(hold.was_stopped() ? image::task_state::stopped : image::task_state::alive);
  tc.set_exit_code(0);
  tc.set_flags(static_cast<std::uint32_t>(stat.flags));
  tc.set_blk_sigset(hold.threads().front().sigmask);
  tc.set_comm(stat.comm);
  tasks::signals::dump_actions(ask, tc);
  tasks::process_flags::dump(proc, ask, tc, state.mm);
  tasks::bounds::dump(proc, stat, ids, ask, state.mm);
  tasks::limits::dump(proc.limits(), *tc.mutable_rlimits());
  tasks::timers::dump(ask, proc.timers(), *tc.mutable_timers());
  ask_clock(ask, CLOCK_MONOTONIC, tc, &image::TaskCoreEntry::set_monotonic_ns);
  ask_clock(ask, CLOCK_BOOTTIME, tc, &image::TaskCoreEntry::set_boottime_ns);
}

void dump_thread(const HeldThread& thread, const proc::Status& status, tasks::Inquiry& ask, image::CoreEntry& core) {
  core.set_mtype(image::CoreEntry::X86_64);
  if (thread.regs.cs != user_code_64) fail(Errc::unsupported, "it runs 32-bit code");
  image::ThreadCoreEntry& t = *core.mutable_thread_core();
  tasks::registers::dump(tasks::call_restart::dump(thread.regs, t), tasks::registers::read_xstate(thread.tid),
                         *core.mutable_thread_info());
  t.set_blk_sigset(thread.sigmask);
  if (thread.interrupted.number >= 0) {
    t.set_interrupted_call(static_cast<std::uint32_t>(thread.interrupted.number));
    t.set_slept_ns(thread.interrupted.slept_ns);
  }
  tasks::thread_links::dump(thread.tid, ask, core);
  tasks::thread_flags::dump(ask, t);
  tasks::signals::dump_stack(ask, t);
  tasks::scheduling::dump(thread, ask, t);
  tasks::memory_policy::dump(ask, t);
  tasks::credentials::dump(status, ask, *t.mutable_creds());
}

}  // namespace

TaskState dump_task(Hold& hold, tasks::FactsReader& facts, const resources::StoppedTask& task, resources::FileIds& ids,
                    tasks::filters::Dump& filters, const tasks::Witnesses* witnesses) {
  const proc::Reader proc(hold.pid());
  const proc::Status& status = facts.at(hold.pid()).status;
  TaskState state;
  state.guest_pid = proc::at_level(status.ns_pid, task.level, hold.pid());
  state.ids = ids_of(task);
  std::vector<tasks::Refusal> refusals;
  std::vector<tasks::filters::Dump::Thread> filtered;
  for (const HeldThread& t : hold.threads()) {
    Doing doing("thread {}", t.tid);
    const auto& [stat, thread_status] = facts.at(t.tid);
    const pid_t guest = state.guest_tids[t.tid] = proc::at_level(thread_status.ns_pid, task.level, t.tid);
    if (InnerPids inner = below(thread_status.ns_pid, task.level); !inner.empty())
      state.inner[guest] = std::move(inner);
    for (tasks::Refusal& r : tasks::refusals_of_thread(fmt::format("thread {}", t.tid), stat, thread_status))
      refusals.push_back(std::move(r));
    image::CoreEntry& core = state.cores[guest];
    const bool leader = t.tid == hold.pid();
    filtered.insert(leader ? filtered.begin() : filtered.end(),
                    {t.tid, thread_status.seccomp, core.mutable_thread_core()});
    tasks::Inquiry ask(hold.remote(t.tid), hold.scratch());
    if (leader) dump_process(hold, proc, stat, ids, ask, state, core);
    dump_thread(t, thread_status, ask, core);
    const bool was_asked = witnesses && (leader || tasks::are_asked_at_once(hold));
    if (!was_asked) tasks::ask_hidden(ask, hold.pid(), t.tid, witnesses, refusals);
    ask.run();
    if (leader) fault::point("engine.inject.batch");
  }

  filters.process(filtered, refusals);
  tasks::throw_refusals(refusals);

  // After the timers: an expiry in between is then in the queue, and its timer is not to fire twice.
  image::CoreEntry& leader = state.cores.at(state.guest_pid);
  tasks::timers::name_threads(*leader.mutable_tc()->mutable_timers(), state.guest_tids);
  const auto ours = [&](const Siginfo& info) { return hold.caused_by_us(info); };
  tasks::signals::dump_queue(hold.pid(), SignalQueue::process, hold.kept_signals(), ours,
                             *leader.mutable_tc()->mutable_signals_s());
  tasks::timers::disarm_expired(*leader.mutable_tc()->mutable_timers(), leader.tc().signals_s());
  for (const HeldThread& t : hold.threads()) {
    image::ThreadCoreEntry& entry = *state.cores.at(state.guest_tids[t.tid]).mutable_thread_core();
    tasks::signals::dump_queue(t.tid, SignalQueue::thread, hold.kept_signals(), ours, *entry.mutable_signals_p());
    tasks::timers::disarm_expired(*leader.mutable_tc()->mutable_timers(), entry.signals_p());
  }
  return state;
}

namespace {

// Of a zombie there is nothing else.
image::CoreEntry last_words(const Relative& r) {
  const proc::Stat stat = proc::Reader(r.host).stat();
  image::CoreEntry core;
  core.set_mtype(image::CoreEntry::X86_64);
  image::TaskCoreEntry& tc = *core.mutable_tc();
  tc.set_task_state(image::task_state::dead);
  tc.set_exit_code(static_cast<std::uint32_t>(stat.exit_code));
  tc.set_personality(0);
  tc.set_flags(0);
  tc.set_blk_sigset(0);
  tc.set_comm(stat.comm);
  return core;
}

// What CRIU lets the clocks go on from.
image::TimensEntry clocks_of(const image::TaskCoreEntry& tc) {
  constexpr std::uint64_t second = 1'000'000'000;
  image::TimensEntry entry;
  entry.mutable_monotonic()->set_tv_sec(tc.monotonic_ns() / second);
  entry.mutable_monotonic()->set_tv_nsec(tc.monotonic_ns() % second);
  entry.mutable_boottime()->set_tv_sec(tc.boottime_ns() / second);
  entry.mutable_boottime()->set_tv_nsec(tc.boottime_ns() % second);
  return entry;
}

}  // namespace

void write_task(const TaskState& state, image::ImageSet& out) {
  for (const auto& [tid, core] : state.cores) out.put(image::Kind::core, static_cast<std::uint64_t>(tid), core);
  if (state.keeps_memory) out.put(image::Kind::mm, static_cast<std::uint64_t>(state.guest_pid), state.mm);
  out.put(image::Kind::ids, static_cast<std::uint64_t>(state.guest_pid), state.ids);
}

void write_tree(const std::vector<Relative>& tree, const std::vector<TaskState>& states, image::ImageSet& out) {
  auto state = states.begin();
  for (const Relative& r : tree) {
    image::PstreeEntry entry = pstree_entry(r);
    if (r.dead) {
      out.put(image::Kind::core, static_cast<std::uint64_t>(r.pid), last_words(r));
    } else {
      for (const auto& [tid, core] : state->cores)
        if (tid != r.pid) entry.add_threads(static_cast<std::uint32_t>(tid));
      for (const auto& [tid, inner] : state->inner)
        if (tid != r.pid) describe_thread(inner, tid, entry);
      ++state;
    }
    out.append(image::Kind::pstree, 0, entry);
  }
  out.put(image::Kind::timens, 0, clocks_of(states.front().cores.at(states.front().guest_pid).tc()));
  image::InventoryEntry inventory;
  inventory.set_img_version(image::image_version);
  inventory.set_fdinfo_per_id(true);
  inventory.set_ns_per_id(true);
  inventory.set_known_fields(std::string(image::known_fields()));
  *inventory.mutable_root_ids() = ids_of({.files_id = 1, .fs_id = 1, .memory_id = 1, .handlers_id = 1});
  out.put(image::Kind::inventory, 0, inventory);
}

}  // namespace godwit::engine
