#include "agent/engine/dump.h"

#include "agent/engine/memory/aio_requests.h"
#include "agent/engine/ptrace/killed.h"
#include "agent/engine/ptrace/pin.h"
#include "agent/engine/survey.h"
#include "agent/engine/tasks/hidden.h"
#include "agent/engine/tasks/ipc_objects.h"
#include "agent/engine/tasks/undo_values.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <ranges>
#include <set>
#include <thread>

#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds first_pause = 20ms, longest_pause = 200ms;

constexpr std::uint64_t most_to_catch_up = 256u << 20;  // more is no tail of what was sent
constexpr std::uint64_t few_pages = 64;
constexpr unsigned most_catch_ups = 16, most_idle = 2;
constexpr std::uint64_t enough_ns = 1'000'000'000;
constexpr std::uint64_t catch_up_limit_ns = 5'000'000'000;  // for the destination to say that it has everything

RoundDone describe(std::uint32_t number, const RoundCount& count) {
  RoundDone done;
  done.set_number(number);
  done.set_pages(count.emitted.pages);
  done.set_zero_pages(count.emitted.zero_pages);
  done.set_bytes(count.emitted.bytes);
  done.set_nanoseconds(count.nanoseconds);
  done.set_regions(count.scanned.regions);
  return done;
}

// A traced thread that has ended waits for its tracer to take notice; the leader, in addition, for all the others.
void wait_for_end(const SourceTask& task, const std::vector<pid_t>& tids) {
  const auto limit = static_cast<std::uint64_t>(std::chrono::nanoseconds(killed_ends_within).count());
  const std::uint64_t deadline = monotonic_ns() + limit;
  const auto take_notice = [&] {
    for (const pid_t tid : tids) ::waitpid(tid, nullptr, __WALL | WNOHANG);
  };
  for (;; std::this_thread::sleep_for(100us)) {
    take_notice();
    if (task.has_ended()) return take_notice();
    if (monotonic_ns() > deadline)
      throw Error(Errc::timed_out,
                  fmt::format("the dump is complete, but process {}, which has been killed, did not end", task.pid()),
                  "what it waits for in the kernel is in /proc/PID/wchan");
  }
}

}  // namespace

Dump::Dump(pid_t pid, Orphans orphans, resources::Options options, Journal& journal)
    : pid_(pid), orphans_(orphans), options_(std::move(options)), journal_(journal) {}

Dump::~Dump() = default;

void Dump::begin_again() {
  for (const auto& task : tasks_) task->forget();
  shared_ = {};
}

// The root stands for the tree: of the others, who has run another program since is sent from the beginning.
bool Dump::tracking() {
  if (tasks_.empty()) return false;
  SourceTask& root = *tasks_.front();
  return root.begun() && root.memory().tracked() && !root.has_ended() && root.same_program();
}

HeldPages Dump::held() const {
  HeldPages all;
  for (const auto& task : tasks_)
    if (task->begun()) all.merge(task->memory().held());
  shared_.add_held(all);
  return all;
}

std::vector<pid_t> Dump::pids() const {
  std::vector<pid_t> all;
  for (const auto& task : tasks_) all.push_back(task->pid());
  return all;
}

bool Dump::all_acknowledged() const {
  return shared_.all_acknowledged() &&
         std::ranges::all_of(tasks_, [](const auto& t) { return !t->begun() || t->memory().all_acknowledged(); });
}

std::shared_ptr<HeldTree> Dump::hold(std::set<pid_t> only) {
  const auto calls = [this](pid_t pid) -> InterruptedCalls& { return calls_[pid]; };
  HoldOptions options = hold_options_;
  if (options_.shell_job) options.still = parent_on_terminal(pid_);
  // Whoever shares descriptors, or memory, would see those that are made for a moment, and the scratch memory.
  std::set<pid_t> tables, memories;
  for (const Relative& r : tree_)
    if (only.contains(r.host)) {
      tables.insert(r.files);
      memories.insert(r.memory);
    }
  for (const Relative& r : tree_)
    if (!r.dead && (tables.contains(r.files) || memories.contains(r.memory))) only.insert(r.host);
  return std::make_shared<HeldTree>(pid_, orphans_, journal_, calls, options, std::move(only));
}

RoundCount Dump::emit_running(PageSink& sink) {
  try {
    return emit_running_tasks(sink);
  } catch (...) {
    // A scan consumes what it reports: after one that did not come to its end, nobody knows what was written.
    begin_again();
    throw;
  }
}

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

RoundCount Dump::emit_running_tasks(PageSink& sink) {
  const std::uint64_t begun = monotonic_ns();
  RoundCount count;
  requests_.begin_round();
  look_at_tree(tree_of(pid_, orphans_), sink);
  for (const auto& task : tasks_ | std::views::reverse) {
    try {
      if (task->begun() && !task->same_program()) forget_program(*task, sink);
      // Born in a freeze that was given up: that did not make a tracker.
      if (task->begun() && tasks_.front()->begun() && tasks_.front()->memory().tracked() && !task->memory().tracked())
        forget(*task, sink);
    } catch (const Error&) {
      if (task->pid() == pid_ || !task->has_ended()) throw;
    }
  }
  track_new();
  spare_shared_pages();
  // And their children: they come when somebody knows whose children they are by then. Who ended while the tree was
  // looked at has no task.
  std::set<pid_t> missing;
  for (const Relative& r : tree_) missing.insert(r.pid);
  for (const auto& task : tasks_) missing.erase(task->guest_pid());
  for (const auto& task : tasks_) {
    if ((!task->begun() && !task->uses_others_memory()) || missing.contains(task->kinship().parent)) {
      missing.insert(task->guest_pid());
      continue;
    }
    if (task->uses_others_memory()) continue;
    try {
      std::optional<Error> in_flight;
      const auto stop = [&] {
        const std::shared_ptr<HeldTree> held = hold({task->pid()});
        // Then a device may write to its memory although it is stopped.
        if (Hold* const stopped = held->find(task->pid())) in_flight = find_aio_requests(*stopped);
        if (in_flight && in_flight->errc() != Errc::busy) throw *in_flight;  // that does not pass
        return held;
      };
      count.add(task->running_round(sink, stop));
      if (!in_flight) continue;
      task->memory().start_over();
      requests_.found(task->pid(), *in_flight);
    } catch (const Error& e) {
      if (task->pid() == pid_ || !memory_has_gone(*task, e, sink)) throw;
      missing.insert(task->guest_pid());
    }
  }
  emit_shared(sink, false, 0, count);
  count.nanoseconds = monotonic_ns() - begun;
  return count;
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

// The tree stands still. A large difference may be given up before any private memory is sent; of shared memory, which
// is compared piece by piece, as much as is allowed is sent before that is known.
RoundCount Dump::emit_frozen_tasks(PageSink& sink) {
  const std::uint64_t begun = monotonic_ns();
  spare_shared_pages();
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

void Dump::emit_shared(PageSink& sink, bool frozen, std::uint64_t most, RoundCount& count) {
  std::vector<const TaskMemory*> memories;
  for (const auto& task : tasks_)
    if (task->begun()) memories.push_back(&task->memory());
  if (frozen) ids_.forget_segments();
  find_shared_memory(memories, ids_, frozen, shared_);
  if (!shared_.round(sink, count.emitted, most)) count.over_bytes = count.emitted.bytes;
}

RoundDone Dump::round(std::uint32_t number, PageSink& sink) {
  Doing doing("round {}", number);
  sink.set_round(number);
  RoundDone done = describe(number, emit_running(sink));
  sink.end_round();
  requests_.end_round(monotonic_ns());
  dirty_bytes_ = of_the_living(sink, [](SourceTask& task) { return task.memory().dirty_bytes(); });
  done.set_dirty_bytes_after(dirty_bytes_);
  done.set_last_sequence(sink.last_sequence());
  return done;
}

// Looking at a large memory takes longer than the pause should (smaps: 30 ms per GiB), and meanwhile the task writes.
// What it wrote goes ahead of the freeze, again and again as long as that leaves less, so that the last difference does
// not grow with the size. No messages to the coordinator lie between these rounds, which else would be most of them.
void Dump::catch_up(std::uint32_t number, PageSink& sink) {
  const SourceTask& root = *tasks_.front();
  if (!sink.live() || !root.begun() || !root.memory().tracked() || dirty_bytes_ > most_to_catch_up) return;
  const std::uint64_t begun = monotonic_ns();
  std::uint64_t least = ~0ull;
  unsigned idle = 0;  // rounds in a row that left no less than the best before: one may have been held up
  for (unsigned rounds = 0; rounds < most_catch_ups && monotonic_ns() - begun < enough_ns; rounds++) {
    const std::uint64_t pages = catch_up_once(number, sink);
    idle = pages < least - least / 5 ? 0 : idle + 1;
    least = std::min(least, pages);
    if (pages <= few_pages || idle == most_idle) return;
  }
}

std::uint64_t Dump::catch_up_once(std::uint32_t number, PageSink& sink) {
  const std::uint64_t begun = monotonic_ns();
  RoundDone done = describe(number, emit_running(sink));
  sink.end_round();
  const std::uint64_t emitted = monotonic_ns();
  while (!all_acknowledged() && monotonic_ns() - emitted < catch_up_limit_ns) sink.wait();
  done.set_nanoseconds(monotonic_ns() - begun);
  if (!caught_up_) caught_up_.emplace().set_number(number);
  caught_up_->set_pages(caught_up_->pages() + done.pages());
  caught_up_->set_zero_pages(caught_up_->zero_pages() + done.zero_pages());
  caught_up_->set_bytes(caught_up_->bytes() + done.bytes());
  caught_up_->set_nanoseconds(caught_up_->nanoseconds() + done.nanoseconds());
  return done.pages();
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
    Frozen frozen{.round = {}, .steps = Steps(hold_->stopped_at_ns()), .at_ns = hold_->stopped_at_ns()};
    frozen.steps.lap("stop");
    fault::point("engine.dump.frozen");
    look_at_tree(hold_->members(), sink);
    for (const auto& refused :
         {refuse_kinship(tree_), refuse_births_of_threads(tree_), tasks::refuse_ipc_objects(pids())})
      tasks::throw_refusals(refused);
    std::set<pid_t> asked;
    for (const auto& task : tasks_) {
      const pid_t pid = task->pid();
      Hold& hold = hold_->of(pid);
      if (const auto witness = witnesses.find(pid); witness != witnesses.end()) {
        tasks::refuse_hidden(hold, witness->second);
        asked.insert(pid);
      }
      tasks::refuse_undo_values(hold, Errc::busy);
      if (!task->uses_others_memory()) refuse_aio_requests(hold);
      hold.drop_scratch();  // no mapping of ours is there when the layout is read
    }
    std::vector<tasks::FactsReader::Thread> threads;
    for (const auto& task : tasks_)
      for (const pid_t tid : hold_->of(task->pid()).tids()) threads.push_back({task->pid(), tid});
    facts.begin(std::move(threads));
    for (const auto& task : tasks_) {
      if (task->begun() && !task->same_program()) {
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
    dump_state(facts.take(), asked, images);
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

void Dump::dump_state(const tasks::Facts& facts, const std::set<pid_t>& asked, image::ImageSet& images) {
  std::vector<TaskState> states;
  tasks::filters::Dump filters;
  for (const resources::StoppedTask& stopped : stopped_tasks()) {
    Doing doing("process {}", stopped.pid);
    resources::dump_fs(stopped, facts.at(stopped.pid).status.umask, ids_, images);
    Hold& hold = hold_->of(stopped.pid);
    const Hidden hidden = asked.contains(stopped.pid) ? Hidden::was_asked : Hidden::to_be_asked;
    TaskState state = dump_task(hold, facts, stopped, ids_, filters, hidden);
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

void Dump::hold_in(const Cgroup& cgroup) {
  fault::point("engine.dump.held");
  cgroup_ = cgroup;
  hold_->leave_frozen(cgroup);
  hold_.reset();
}

void Dump::release() {
  hold_->release();
  hold_.reset();
}

void Dump::leave_stopped() {
  hold_->leave_stopped();
  hold_.reset();
}

void Dump::thaw() {
  if (hold_) release();
  if (cgroup_) cgroup_->thaw();
  owe_unacknowledged();
}

// Held threads are on this CPU, and end there. Meanwhile another one frees their memory, too (5.15+), if it comes
// before the last of them has let go of it.
void Dump::end_all() {
  const Aside aside;
  for (const auto& task : tasks_)
    check(::syscall(SYS_pidfd_send_signal, task->pidfd(), SIGKILL, nullptr, 0), "kill process {}", task->pid());
  for (const auto& task : tasks_) ::syscall(SYS_process_mrelease, task->pidfd(), 0);
  // Children first: the init of a PID namespace ends after all that are in it.
  for (const auto& task : tasks_ | std::views::reverse) wait_for_end(*task, hold_->of(task->pid()).tids());
}

std::vector<Dump::Ended> Dump::kill() {
  std::vector<Ended> ended;
  for (const auto& task : tasks_) ended.push_back({task->pid(), hold_->of(task->pid()).start_time()});
  end_all();
  hold_->gone();
  hold_.reset();
  return ended;
}

void Dump::acknowledged(std::uint64_t sequence) {
  for (const auto& task : tasks_)
    if (task->begun()) task->memory().acknowledged(sequence);
  shared_.acknowledged(sequence);
}

void Dump::owe_unacknowledged() {
  for (const auto& task : tasks_)
    if (task->begun()) task->memory().owe_unacknowledged();
  shared_.owe_unacknowledged();
}

}  // namespace godwit::engine
