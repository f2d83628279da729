#include "coordinator/migration/driver.h"

#include "common/base/log.h"
#include "common/base/wall_clock.h"
#include "coordinator/migration/copy_id.h"
#include "coordinator/migration/hopeless.h"
#include "coordinator/migration/json.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <random>
#include <set>

namespace godwit::coordinator {
namespace {

using std::chrono::nanoseconds;

// Freezing, restoring and committing a process without its pages, before anything was measured here.
constexpr nanoseconds default_overhead = std::chrono::milliseconds(20);
constexpr unsigned remembered = 5;
constexpr std::size_t enough_seen = 3;
constexpr Clock::duration most_again = std::chrono::minutes(1);

// Says when it began, can be read out on the telephone, and is never given out twice (the journal would refuse it).
std::string new_id(std::chrono::system_clock::time_point now) {
  std::random_device random;
  return fmt::format("{:%Y%m%d-%H%M%S}-{:06x}", fmt::gmtime(now), random() & 0xffffff);
}

}  // namespace

Driver::Driver(net::Executor executor, Store& store, Registry& registry, Limits limits)
    : executor_(std::move(executor)), store_(store), registry_(registry), limits_(limits) {}

std::string Driver::active_for(const std::string& workload) const {
  for (const auto& [id, run] : runs_)
    if (run->migration().spec.workload == workload) return id;
  // An unknown outcome blocks the next attempt: there may be two copies to tell apart.
  for (const std::string& id : store_.unfinished())
    if (const auto m = store_.migration(id); m && !terminal(m->phase) && m->spec.workload == workload) return id;
  return {};
}

// By PID, whatever name a survey has given it: the same process is moved by one at a time, and not again before the
// outcome is known.
std::string Driver::active_for(std::int32_t pid, const std::string& source) const {
  const auto same = [&](const MigrationSpec& spec) { return spec.pid == pid && spec.source == source; };
  for (const auto& [id, run] : runs_)
    if (same(run->migration().spec)) return id;
  for (const std::string& id : store_.unfinished())
    if (const auto m = store_.migration(id); m && !terminal(m->phase) && same(m->spec)) return id;
  return {};
}

std::vector<Error> Driver::obstacles(MigrationSpec& spec) const {
  std::vector<Error> found;
  const auto check = [&found](const auto& what) {
    try {
      what();
    } catch (const Error& e) {
      found.push_back(e);
    }
  };
  const auto busy_with = [](const std::string& what, const std::string& id) {
    return Error(Errc::busy, fmt::format("{} is already being migrated by {}", what, id),
                 fmt::format("`godwit watch {}` tells how that ends", id));
  };
  if (stopping_) found.emplace_back(Errc::cancelled, "the coordinator is shutting down", "ask again when it is back");
  if (spec.pid) check([&] { name_by_pid(spec); });
  check([&] { registry_.node(spec.destination); });
  if (!spec.workload.empty()) {
    if (const std::string id = active_for(spec.workload); !id.empty())
      found.push_back(busy_with(fmt::format("workload '{}'", spec.workload), id));
    check([&] {
      const WorkloadView w = registry_.find(spec.workload, spec.source);
      spec.source = w.node;
      if (w.state != "running")
        throw Error(Errc::busy, fmt::format("workload '{}' on '{}' is {}", spec.workload, w.node, w.state),
                    "`godwit ps` shows when it runs again");
    });
  } else if (const std::string id = active_for(spec.pid, spec.source); !id.empty()) {
    found.push_back(busy_with(fmt::format("PID {} on '{}'", spec.pid, spec.source), id));
  }
  if (spec.source == spec.destination) {
    found.emplace_back(Errc::invalid_argument,
                       fmt::format("source and destination are the same node '{}'", spec.source),
                       "`godwit nodes` lists the others");
    return found;
  }
  const auto& nodes = registry_.nodes();
  if (nodes.contains(spec.source)) check([&] { registry_.channel(spec.source); });
  if (!nodes.contains(spec.destination)) return found;
  check([&] { registry_.channel(spec.destination); });
  check([&] { registry_.check_not_cordoned(spec.destination); });
  if (spec.workload.empty()) return found;
  const auto& there = registry_.node(spec.destination).workloads;
  if (const auto twin = there.find(spec.workload); twin != there.end() && twin->second.state() != "exited")
    found.emplace_back(Errc::already_exists,
                       fmt::format("node '{}' already has a workload '{}'", spec.destination, spec.workload),
                       "choose another node");
  return found;
}

std::optional<Error> Driver::hopeless(const MigrationSpec& spec) const {
  const Overhead overhead = expected_overhead(spec);
  return coordinator::hopeless({.overhead = overhead.least, .pauses = overhead.pauses, .rate_limit = spec.rate_limit},
                               spec.policy);
}

// A workload of ours is one by whatever name: its epochs count under its own.
void Driver::name_by_pid(MigrationSpec& spec) const {
  for (const auto& [workload, info] : registry_.node(spec.source).workloads)
    if (info.pid() == spec.pid && info.state() != "exited") {
      spec.workload = workload;
      spec.pid = 0;
      return;
    }
}

std::uint64_t Driver::epoch_of_copy(const MigrationSpec& spec) const {
  const auto& workloads = registry_.node(spec.source).workloads;
  const auto running = workloads.find(spec.workload);
  return running == workloads.end() ? 0 : epoch_of(running->second.id());
}

std::uint64_t Driver::coming_epoch(const MigrationSpec& spec) const {
  return std::max(store_.highest_epoch(subject_of(spec)), epoch_of_copy(spec)) + 1;
}

std::string Driver::start(MigrationSpec spec, std::int64_t evacuation) {
  if (const std::vector<Error> found = obstacles(spec); !found.empty()) throw found.front();
  const auto now = wall_now();
  Migration m{.id = new_id(now), .spec = spec};
  m.epoch = store_.next_epoch(subject_of(spec), epoch_of_copy(spec));
  m.created_unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
  store_.add(m, evacuation);
  try {
    store_.append(m.id, "phase", {{"phase", name(m.phase)}, {"migration", m.id}, {"request", to_json(spec)}});
  } catch (const Error& e) {  // it has begun: what it cannot journal it rolls back
    log::error("migration.journal_failed", {{"migration", m.id}, {"message", e.message()}});
  }
  const std::string id = m.id;
  log::info("migration.start",
            {{"migration", id}, {"workload", subject_of(spec)}, {"from", spec.source}, {"to", spec.destination}});
  launch(std::move(m), limits_.again);
  return id;
}

// `again`: the pause after which an unknown outcome is asked for anew.
void Driver::launch(Migration m, Clock::duration again) {
  const std::string id = m.id, source = m.spec.source, destination = m.spec.destination;
  const Overhead overhead = expected_overhead(m.spec);
  auto run = std::make_shared<Run>(executor_, store_, registry_, limits_, std::move(m), overhead);
  run->set_number(++launched_);
  const auto has_a_share = std::make_shared<bool>(false);
  run->set_on_sending([this, id, source, has_a_share] {
    *has_a_share = true;
    shares_changed(source, id, Run::Share::may_have_fallen);
  });
  runs_[id] = run;
  net::spawn(executor_, run->drive(), [this, id, source, run, again, has_a_share](std::exception_ptr problem) {
    if (problem)
      log::error("migration.driver_failed", {{"migration", id}, {"message", net::to_error(problem).message()}});
    runs_.erase(id);
    if (*has_a_share) shares_changed(source, id, Run::Share::grew);
    run->changed().notify();
    if (run->migration().phase == Phase::undecided && !stopping_)
      net::spawn(executor_, "migration.ask_again", ask_again(id, again));
  });
}

// A link heals without a word, so nobody comes back to say that an answer can be had now.
net::awaitable<void> Driver::ask_again(std::string id, Clock::duration pause) {
  co_await net::sleep_for(pause);
  if (stopping_ || runs_.contains(id)) co_return;
  const std::optional<Migration> m = store_.migration(id);
  if (m && m->phase == Phase::undecided) launch(*m, std::min(2 * pause, most_again));
}

void Driver::cancel(const std::string& id, const std::string& by) {
  const std::shared_ptr<Run> run = find(id);
  if (run && !settled(run->migration().phase)) return run->cancel(by);
  fail_not_under_way(id, "the records of both nodes decide it as soon as both can be read");
}

net::awaitable<void> Driver::set_rate(std::string id, std::uint64_t bytes_per_second, std::string by) {
  const std::shared_ptr<Run> run = find(id);
  if (!run || settled(run->migration().phase)) fail_not_under_way(id, "nothing is being sent any more");
  co_await run->set_rate(bytes_per_second, std::move(by));
}

void Driver::node_rate_changed(const std::string& node) { shares_changed(node, {}, Run::Share::may_have_fallen); }

// Those that leave a node share what it may send, and its link.
void Driver::shares_changed(const std::string& node, const std::string& but, Run::Share share) {
  for (const auto& [id, run] : runs_)
    if (id != but && run->migration().spec.source == node) run->share_changed(share);
}

void Driver::fail_not_under_way(const std::string& id, std::string_view unknown) const {
  const std::optional<Migration> m = store_.migration(id);
  if (!m) throw Error(Errc::not_found, fmt::format("no migration '{}'", id), "`godwit history` lists them");
  if (m->phase == Phase::undecided)
    throw Error(Errc::busy, fmt::format("too late: the outcome of migration {} is unknown", id), std::string(unknown));
  throw Error(Errc::not_found, fmt::format("migration {} is not under way: it is {}", id, name(m->phase)),
              fmt::format("`godwit history {}` tells how it ended", id));
}

void Driver::resume() {
  for (const std::string& id : store_.unfinished()) {
    const std::optional<Migration> m = store_.migration(id);
    log::info("migration.resume", {{"migration", id}, {"phase", name(m->phase)}});
    launch(*m, limits_.again);
  }
}

void Driver::node_returned(const std::string& node) {
  if (stopping_) return;
  for (const std::string& id : store_.unfinished()) {
    const std::optional<Migration> m = store_.migration(id);
    if (runs_.contains(id) || m->phase != Phase::undecided) continue;
    if (m->spec.source == node || m->spec.destination == node) launch(*m, limits_.again);
  }
}

void Driver::progress(const std::string& node, const api::Progress& progress) {
  if (const auto run = runs_.find(progress.id().migration()); run != runs_.end()) run->second->progress(node, progress);
}

std::shared_ptr<Run> Driver::find(const std::string& id) const {
  const auto it = runs_.find(id);
  return it == runs_.end() ? nullptr : it->second;
}

std::vector<std::string> Driver::under_way() const {
  std::vector<std::string> ids;
  for (const auto& [id, run] : runs_) ids.push_back(id);
  std::ranges::sort(ids, {}, [this](const std::string& id) { return runs_.at(id)->number(); });
  return ids;
}

net::awaitable<void> Driver::stop(Clock::duration grace) {
  stopping_ = true;
  for (auto& [id, run] : runs_) run->stop();
  const Clock::time_point deadline = Clock::now() + grace;
  while (!runs_.empty() && Clock::now() < deadline) co_await net::sleep_for(std::chrono::milliseconds(20));
}

// What the pauses of this workload took beyond their pages, or those of others while it has none. For deciding the
// least counts, and no few of them are believed: a hiccup must not make the policy refuse for ever.
Overhead Driver::expected_overhead(const MigrationSpec& spec) const {
  Overhead expected{.least = default_overhead, .pauses = {}};
  if (!spec.workload.empty()) expected.pauses = pauses_of(spec.workload, spec);
  if (expected.pauses.empty()) {
    expected.pauses = pauses_of("", spec);
  } else {
    const nanoseconds least = std::ranges::min_element(expected.pauses, {}, &SeenPause::overhead)->overhead;
    expected.least = expected.pauses.size() < enough_seen ? std::min(least, default_overhead) : least;
  }
  return expected;
}

// Of the last few migrations of a workload; of all for an empty name.
std::vector<SeenPause> Driver::pauses_of(const std::string& workload, const MigrationSpec& spec) const {
  const std::set<std::string> nodes{spec.source, spec.destination};
  std::vector<SeenPause> seen;
  for (const Migration& m : store_.migrations(remembered, workload)) {
    if (m.outcome != Outcome::done || m.downtime_ns <= 0 || m.rounds.empty() || !m.rounds.back().final) continue;
    const bool same_nodes = std::set{m.spec.source, m.spec.destination} == nodes;
    seen.push_back(seen_pause(m.rounds, nanoseconds(m.downtime_ns), same_nodes));
  }
  return seen;
}

}  // namespace godwit::coordinator
