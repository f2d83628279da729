// How a rehearsal ends. It goes the way of every migration up to `prepared` at the destination: the copy there is
// built, whole and held, and has never run. Then, instead of arming, it is rolled back like any migration before the
// arming: the source lets its copy go on its own word, the destination discards on the source's.
//
// What is left to do is to see that both sides are as before, and to say what the downtime would have been.
#include "coordinator/migration/run.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace godwit::coordinator {
namespace {

using net::awaitable;

constexpr unsigned remembered = 5;
constexpr auto list_limit = std::chrono::seconds(5);

// What a real pause has after the destination is prepared, as long as none of this workload was measured: four records
// and the messages between.
constexpr std::int64_t default_ending_ns = 8'000'000;
constexpr std::array<std::string_view, 5> steps_of_ending{"record armed", "record committed", "thaw", "record resumed",
                                                          "transit"};

std::int64_t sum(const std::vector<StepRecord>& steps) {
  std::int64_t total = 0;
  for (const StepRecord& s : steps) total += s.nanoseconds;
  return total;
}

std::int64_t expected_ending(const std::vector<Migration>& past) {
  for (const Migration& m : past) {
    std::int64_t total = 0;
    if (m.outcome == Outcome::done)
      for (const StepRecord& s : m.steps)
        if (std::ranges::find(steps_of_ending, s.name) != steps_of_ending.end()) total += s.nanoseconds;
    if (total > 0) return total;
  }
  return default_ending_ns;
}

}  // namespace

awaitable<void> Run::conclude_rehearsal() {
  const std::int64_t ending = expected_ending(store_.migrations(remembered, m_.spec.workload));
  times_.commit.steps = {{"commit, expected", ending}};
  const std::int64_t stopped = sum(times_.freeze.steps);
  m_.downtime_ns = stopped + (times_.finish.answered_ns - times_.freeze.answered_ns) + ending;
  const std::int64_t paused = stopped + (thawed_ns_ - times_.freeze.answered_ns);
  note(fmt::format("the workload stood still for {:.1f} ms and goes on at '{}'", static_cast<double>(paused) / 1e6,
                   m_.spec.source));

  const Clock::time_point deadline = Clock::now() + limits_.patience;
  for (;;) {
    const std::string difference = co_await difference_from_before();
    if (difference.empty()) co_return;
    if (Clock::now() >= deadline) {
      blame(Error(Errc::timed_out, "after the rehearsal " + difference, "`godwit ps` shows both nodes"));
      co_return;
    }
    co_await net::sleep_for(limits_.interval);
  }
}

// Empty when the destination has nothing of it, and the source runs what it ran.
awaitable<std::string> Run::difference_from_before() {
  api::Envelope request;
  fill(request.mutable_query()->mutable_id());
  const DestinationAnswer there = co_await ask_destination(std::move(request));
  if (!there || there->phase() != api::DESTINATION_REFUSED)
    co_return fmt::format("node '{}' does not say that it has discarded the copy", m_.spec.destination);
  if (co_await listed(m_.spec.destination))
    co_return fmt::format("node '{}' still lists the workload", m_.spec.destination);

  const auto& before = registry_.node(m_.spec.source).workloads;
  if (!before.contains(m_.spec.workload)) co_return "";  // a process that Godwit had not started is in no list
  const std::optional<api::WorkloadInfo> here = co_await listed(m_.spec.source);
  const api::WorkloadInfo& was = surveyed_.info();
  if (!here || here->state() != "running" || here->id() != was.id() || here->pid() != was.pid())
    co_return fmt::format("node '{}' does not run the workload as before", m_.spec.source);
  co_return "";
}

awaitable<std::optional<api::WorkloadInfo>> Run::listed(std::string node) {
  api::Envelope request;
  request.mutable_list_workloads();
  std::exception_ptr problem;
  try {
    const api::Envelope reply = co_await ask(node, std::move(request), api::Envelope::kWorkloadList, list_limit);
    for (const api::WorkloadInfo& w : reply.workload_list().workloads())
      if (w.name() == m_.spec.workload && w.state() != "exited") co_return w;
    co_return std::nullopt;
  } catch (const Error&) {
    problem = std::current_exception();
  }
  // Not known: something that is neither as before nor gone.
  api::WorkloadInfo unknown;
  unknown.set_state("unknown");
  co_return unknown;
}

}  // namespace godwit::coordinator
