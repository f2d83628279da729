// The last round: the tree is stopped, and its state sent behind the difference.
#include "agent/engine/dump.h"

#include "agent/engine/memory/aio_requests.h"
#include "agent/engine/survey.h"
#include "agent/engine/tasks/hidden.h"
#include "agent/engine/tasks/ipc_objects.h"
#include "agent/engine/tasks/undo_values.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/warm_heap.h"
#include "common/proc/kept_directories.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <set>
#include <thread>

#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds first_pause = 20ms, longest_pause = 200ms;

// What the state of a tree takes while it is collected, about.
constexpr std::size_t of_process = 96u << 10, of_thread = 20u << 10, most_warm = 64u << 20;

void warm_heap_for(const std::vector<std::unique_ptr<SourceTask>>& tasks) {
  std::size_t bytes = 0;
  for (const auto& task : tasks) {
    std::int64_t threads = 1;
    try {
      threads = proc::Reader(task->pid()).stat().num_threads;
    } catch (const Error&) {  // it has ended; who needs it will say so
    }
    bytes += of_process + static_cast<std::size_t>(std::max<std::int64_t>(threads, 1)) * of_thread;
  }
  warm_heap(std::min(bytes, most_warm));
}

}  // namespace

RoundCount Dump::emit_frozen(PageSink& sink) {
  try {
    return emit_frozen_tasks(sink);
  } catch (const TooSlow&) {
    throw;  // all that the scans have found was noted before
  } catch (...) {
    begin_again();
    throw;
  }
}

// Pages become common by a fork and stay so until one of the two writes or runs another program. What has left the
// tree, an orphan, is not asked: what it has in common with the tree may come to take its place twice.
void Dump::spare_shared_pages() {
  const bool may_share = tasks_.size() > 1
                             ? std::ranges::any_of(tasks_, [](const auto& t) { return t->begun() && t->forked_only(); })
                             : tasks_.front()->may_share_with_parent();
  for (const auto& task : tasks_)
    if (task->begun()) task->memory().spare_shared(may_share);
}

void Dump::leave_out_scratch() {
  for (const auto& task : tasks_) {
    if (!task->begun()) continue;
    const auto [start, end] = hold_->of(task->pid()).scratch_range();
    task->memory().leave_out(start, end);
  }
}

// The tree stands still. A large difference may be given up before any private memory is sent; of shared memory, which
// is compared piece by piece, as much as is allowed is sent before that is known.
RoundCount Dump::emit_frozen_tasks(PageSink& sink) {
  const std::uint64_t begun = monotonic_ns();
  spare_shared_pages();
  leave_out_scratch();
  RoundCount count;
  if (most_bytes_ == 0) {
    for (const auto& task : tasks_)
      if (task->begun()) count.add(task->memory().round(sink, true));
  } else {
    for (const auto& task : tasks_) {
      if (!task->begun()) continue;
      count.add(task->memory().scan_last(sink));
      count.over_bytes += task->memory().owed_bytes();
    }
    if (count.over_bytes > most_bytes_) return count;
    count.over_bytes = 0;
    if (may_run_on()) sink.set_deadline(hold_->stopped_at_ns() + static_cast<std::uint64_t>(longest_stop_.count()));
    for (const auto& task : tasks_)
      if (task->begun()) count.add(task->memory().send_owed(sink));
  }
  emit_shared(sink, true, most_bytes_, count);
  count.nanoseconds = monotonic_ns() - begun;
  return count;
}

Dump::Frozen Dump::freeze(std::uint32_t number, PageSink& sink, std::chrono::milliseconds patience, Tracking tracking) {
  Doing doing("freezing process {}", pid_);
  sink.set_round(number);
  caught_up_.reset();
  const std::uint64_t deadline = monotonic_ns() + static_cast<std::uint64_t>(patience.count()) * 1'000'000;
  // Every attempt stops the task for a moment: less and less often.
  for (auto pause = first_pause;; pause = std::min(2 * pause, longest_pause)) {
    bool emitting = false;
    try {
      return freeze_once(number, sink, tracking, emitting);
    } catch (const Error& e) {
      if (e.errc() != Errc::busy || emitting || monotonic_ns() > deadline) throw;
      log::info("dump.busy", {{"pid", pid_}, {"reason", e.message()}});
    }
    std::this_thread::sleep_for(pause);
  }
}

// Of a tree that nothing was sent of: the frozen round sends it all.
void Dump::begin_untracked(PageSink& sink) {
  look_at_tree(tree_of(pid_, orphans_), sink);
  for (const auto& task : tasks_) {
    if (task->uses_others_memory()) continue;
    try {
      task->begin({}, ids_, second_);
    } catch (const Error& e) {
      if (task->pid() == pid_ || !task->has_ended()) throw;
    }
  }
}

Dump::Frozen Dump::freeze_once(std::uint32_t number, PageSink& sink, Tracking tracking, bool& emitting) {
  const bool first = tasks_.empty() || !tasks_.front()->begun() || !tasks_.front()->same_program();
  if (first) {
    forget_all(sink);
    begin_again();
    begin_untracked(sink);
  }
  const MemoriesSeen seen = std::exchange(seen_, {});
  for (const auto& task : tasks_) {
    try {
      if (task->begun()) task->look(seen);
    } catch (const Error& e) {
      if (task->pid() == pid_ || !task->has_ended()) throw;
    }
  }
  if (!first) {
    emitting = true;
    catch_up(number, sink);
    emitting = false;
  }
  std::map<pid_t, tasks::Witnesses> witnesses;  // else they have been asked in their first stop
  for (const auto& task : tasks_)
    if (first && task->begun()) witnesses.try_emplace(task->pid(), task->pid());
  tasks::FactsReader facts;
  // What is told in the stop before there is a deadline (the tree, layouts) has room in the ring, whatever the
  // destination does.
  while (may_run_on() && !all_acknowledged()) sink.wait();
  warm_heap_for(tasks_);
  if (before_stop_) before_stop_();
  std::uint64_t emitted_bytes = 0;
  bool sends_state = false;  // of which a copy could be built: it does not run on to another attempt of this dump
  const auto undo = [&] {
    sink.set_deadline(0);
    hold_.reset();
    if (first) begin_again();  // the next attempt is the first one again
  };
  try {
    hold_ = hold();
    // From here on nothing of the tree runs.
    const proc::KeptDirectories kept;
    Frozen frozen{.round = {}, .steps = Steps(hold_->stopped_at_ns()), .at_ns = hold_->stopped_at_ns()};
    frozen.steps.lap("stop");
    facts.begin(held_threads());
    fault::point("engine.dump.frozen");
    look_at_tree(hold_->members(), sink);
    for (const auto& refused :
         {refuse_kinship(tree_), refuse_births_of_threads(tree_), tasks::refuse_ipc_objects(pids())})
      tasks::throw_refusals(refused);
    std::set<pid_t> same_program;
    for (const auto& task : tasks_) {
      const pid_t pid = task->pid();
      Hold& hold = hold_->of(pid);
      if (task->begun() && task->same_program()) same_program.insert(pid);
      if (const auto witness = witnesses.find(pid); witness != witnesses.end())
        tasks::refuse_hidden(hold, witness->second, tasks::Asked::some);
      tasks::refuse_undo_values(hold, Errc::busy);
      if (task->uses_others_memory()) {
        hold.drop_scratch();  // or it would be in the layout of the one who is asked for this memory
        continue;
      }
      refuse_aio_requests(hold);
      task->ask_policies(hold, same_program.contains(pid));
    }
    for (const auto& task : tasks_) {
      if (task->begun() && !same_program.contains(task->pid())) {
        if (task->pid() == pid_) fail(Errc::busy, "process {} ran another program just now", pid_);
        forget_program(*task, sink);
      }
      if (task->uses_others_memory()) continue;
      const bool newborn = !task->begun();
      if (newborn) task->begin({}, ids_, second_);
      if ((first || newborn) && tracking == Tracking::begin)
        task->memory().track(task->make_userfaultfd(hold_->of(task->pid()).leader()));
    }

    image::ImageSet images;
    ids_.begin_freeze();
    for (const std::string& notice : resources::dump_fds(stopped_tasks(), ids_, images, options_))
      log::warn("dump.notice", {{"what", notice}});
    frozen.steps.lap("descriptors");

    // After the descriptors, which may lead to more shared memory, and before the rest, which is read while pages are
    // on their way. Injected calls change nothing of what was sent, but for the CPU number that the kernel keeps in a
    // thread's rseq area: it writes that anew wherever the thread goes on.
    emitting = true;
    const RoundCount count = emit_frozen(sink);
    emitted_bytes = count.emitted.bytes;
    if (count.over_bytes > 0) {
      run_on(frozen, count.over_bytes, sink);
      if (first)  // what of it was sent is forgotten here, too
        forget_all(sink);
      return frozen;
    }
    frozen.round = describe(number, count);
    if (may_run_on()) sink.end_round();  // or the last pages would lie for a moment before they are stored
    frozen.steps.lap("memory");
    dump_state(facts, witnesses, images);
    frozen.steps.lap("tasks");
    fault::point("engine.dump.state");
    if (may_run_on()) {
      // Pages alone do no harm when it runs on. The state, of which a copy could be built, follows when they are
      // stored.
      while (!all_acknowledged()) sink.wait();
      frozen.steps.lap("store");
    }
    sends_state = true;

    ids_.forget_files();
    ids_.write(images);
    for (const auto& [name, bytes] : images.files()) sink.file(name, bytes);
    sink.end_round();
    sink.set_deadline(0);
    frozen.round.set_last_sequence(sink.last_sequence());
    frozen.steps.lap("images");
    if (caught_up_) caught_up_->set_dirty_bytes_after(frozen.round.bytes());
    frozen.caught_up = caught_up_;
    return frozen;
  } catch (const TooSlow&) {
    if (sends_state) {
      undo();
      fail(Errc::refused, "its state is still being sent when the pause is as long as it may be");
    }
    Frozen frozen{.round = {}, .steps = Steps(hold_->stopped_at_ns()), .at_ns = hold_->stopped_at_ns()};
    const std::uint64_t difference = std::max(owed_bytes(), emitted_bytes);
    run_on(frozen, difference > 0 ? difference : most_bytes_, sink);  // in the middle of shared memory nobody knows
    if (first) forget_all(sink);
    return frozen;
  } catch (const Error& e) {
    undo();
    if (!emitting) try_again_without_the_dead(e);
    throw;
  } catch (...) {
    undo();
    throw;
  }
}

std::vector<tasks::FactsReader::Thread> Dump::held_threads() const {
  std::vector<tasks::FactsReader::Thread> threads;
  for (const TreeMember& m : hold_->members())
    if (const Hold* const hold = hold_->find(m.pid))
      for (const pid_t tid : hold->tids()) threads.push_back({m.pid, tid});
  return threads;
}

std::vector<resources::StoppedTask> Dump::stopped_tasks() const {
  std::vector<resources::StoppedTask> stopped;
  std::map<pid_t, std::uint32_t> files, fs, memories, handlers;  // by who has it first
  const std::size_t level = tree_.front().level;
  for (const auto& task : tasks_) {
    const Relative& r = *std::ranges::find(tree_, task->pid(), &Relative::host);
    const std::uint32_t own = first_id + static_cast<std::uint32_t>(stopped.size());
    stopped.push_back({.pid = task->pid(),
                       .pidfd = task->pidfd(),
                       .guest_pid = task->guest_pid(),
                       .level = level,
                       .files_id = files.try_emplace(r.files, own).first->second,
                       .fs_id = fs.try_emplace(r.fs, own).first->second,
                       .memory_id = memories.try_emplace(r.memory, own).first->second,
                       .handlers_id = handlers.try_emplace(r.handlers, own).first->second});
  }
  return stopped;
}

void Dump::dump_stop(const Hold& hold, image::CoreEntry& core, pid_t pid) const {
  image::TaskCoreEntry& tc = *core.mutable_tc();
  tc.set_stop_signo(static_cast<std::uint32_t>(hold.stop_signal()));
  const Relative& stopped = *std::ranges::find(tree_, pid, &Relative::pid);
  const auto parent = std::ranges::find(tree_, stopped.kin.parent, &Relative::pid);
  Hold* const waiting = parent == tree_.end() ? nullptr : hold_->find(parent->host);
  if (!waiting) return;
  Batch batch(waiting->scratch());
  const RemoteAddr info = batch.put(Siginfo{});
  batch.add("look at a child's stop", SYS_waitid, P_PID, name_of(stopped, *parent), info, WSTOPPED | WNOHANG | WNOWAIT,
            0);
  waiting->leader().run(batch);
  tc.set_stop_seen(batch.read<Siginfo>(info).number() == 0);
}

void Dump::dump_state(tasks::FactsReader& facts, const std::map<pid_t, tasks::Witnesses>& witnesses,
                      image::ImageSet& images) {
  std::vector<TaskState> states;
  tasks::filters::Dump filters;
  for (const resources::StoppedTask& stopped : stopped_tasks()) {
    Doing doing("process {}", stopped.pid);
    resources::dump_fs(stopped, facts.at(stopped.pid).status.umask, ids_, images);
    Hold& hold = hold_->of(stopped.pid);
    const auto witness = witnesses.find(stopped.pid);
    TaskState state =
        dump_task(hold, facts, stopped, ids_, filters, witness == witnesses.end() ? nullptr : &witness->second);
    if (hold.was_stopped()) dump_stop(hold, state.cores.at(state.guest_pid), state.guest_pid);
    const SourceTask& task = *tasks_[states.size()];
    state.keeps_memory = !task.uses_others_memory();
    if (state.keeps_memory) task.memory().describe(state.mm);
    write_task(state, images);
    states.push_back(std::move(state));
  }
  write_tree(tree_, states, images);
  filters.write(images);
}

std::uint64_t Dump::owed_bytes() const {
  std::uint64_t owed = 0;
  for (const auto& task : tasks_)
    if (task->begun()) owed += task->memory().owed_bytes();
  return owed;
}

// Nothing of its state has been sent yet, only pages: the attempt was a round with a stop.
void Dump::run_on(Frozen& frozen, std::uint64_t over_bytes, PageSink& sink) {
  sink.set_deadline(0);
  release();
  frozen.over_bytes = over_bytes;
  frozen.stopped_ns = monotonic_ns() - frozen.at_ns;
  sink.end_round();
  if (caught_up_) caught_up_->set_dirty_bytes_after(over_bytes);
  frozen.caught_up = caught_up_;
}

}  // namespace godwit::engine
