// Rounds while the tree runs, up to the last look before the stop.
#include "agent/engine/dump.h"

#include "agent/engine/memory/aio_requests.h"
#include "common/base/check.h"
#include "common/base/fault.h"

#include <algorithm>
#include <ranges>
#include <set>

namespace godwit::engine {
namespace {

constexpr std::uint64_t most_to_catch_up = 256u << 20;  // more is no tail of what was sent
constexpr std::uint64_t few_pages = 64;
constexpr unsigned most_catch_ups = 16, most_idle = 2;
constexpr std::uint64_t enough_ns = 1'000'000'000;
constexpr std::uint64_t catch_up_limit_ns = 5'000'000'000;  // for the destination to say that it has everything

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

RoundDone Dump::describe(std::uint32_t number, const RoundCount& count) {
  RoundDone done;
  done.set_number(number);
  done.set_pages(count.emitted.pages);
  done.set_zero_pages(count.emitted.zero_pages);
  done.set_bytes(count.emitted.bytes);
  done.set_nanoseconds(count.nanoseconds);
  done.set_regions(count.scanned.regions);
  return done;
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
      if ((task->pid() == pid_ && task->has_ended()) || !memory_has_gone(*task, e, sink)) throw;
      missing.insert(task->guest_pid());
    }
  }
  emit_shared(sink, false, 0, count);
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
