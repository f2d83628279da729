#include "coordinator/fleet/evacuation.h"

#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/wall_clock.h"
#include "coordinator/fleet/evacuations.h"
#include "coordinator/migration/json.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto look_every = 100ms;           // at the migrations: they take longer
constexpr auto start_limit = 15s;            // an agent gives up a start after ten
constexpr Clock::duration most_pause = 10s;  // between two attempts to journal the end

// These speak of the destination: another one may do.
bool try_elsewhere(const Migration& m) {
  if (m.outcome == Outcome::refused) return true;
  return m.outcome == Outcome::rolled_back && m.reason &&
         (m.reason->code == Errc::peer_lost || m.reason->code == Errc::no_space || m.reason->code == Errc::timed_out);
}

Reason reason_of(const Error& e) { return {e.errc(), e.message(), e.hint()}; }

Reason not_now(const WorkloadView& w) {
  if (w.state == "unknown")
    return {Errc::peer_lost, fmt::format("node '{}' is not connected", w.node),
            "see `godwit nodes`; is its agent running?"};
  return {Errc::busy, fmt::format("it is {}", w.state), "`godwit ps` shows when it runs again"};
}

json to_json(const Move& m) {
  const bool moved = m.state == MoveState::moved;
  const bool planned = !m.to.empty() && !m.surveyed.engine().empty();
  return {{"workload", m.workload},
          {"state", name(m.state)},
          {"to", m.to.empty() ? json() : json(m.to)},
          {"migration", m.migration.empty() ? json() : json(m.migration)},
          {"resident_bytes", m.surveyed.resident_bytes()},
          {"predicted", planned ? to_json(m.forecast) : json()},
          {"downtime_ms", moved && m.downtime_ns > 0 ? json(static_cast<double>(m.downtime_ns) / 1e6) : json()},
          {"total_s", moved ? json(m.total_s) : json()},
          {"bytes", moved ? json(m.bytes) : json()},
          {"reason", m.reason ? to_json(*m.reason) : json()}};
}

}  // namespace

std::string_view name(MoveState state) {
  switch (state) {
    case MoveState::waiting: return "waiting";
    case MoveState::moving: return "moving";
    case MoveState::moved: return "moved";
    case MoveState::failed: return "failed";
    case MoveState::stays: return "stays";
    case MoveState::unknown: return "unknown";
  }
  return "unknown";
}

Evacuation::Evacuation(Registry& registry, Driver& driver, Store& store, AgentService& agents, const Evacuations& all,
                       EvacuationRequest request, std::int64_t number)
    : registry_(registry),
      driver_(driver),
      store_(store),
      agents_(agents),
      all_(all),
      previewer_(store, registry, driver),
      request_(std::move(request)),
      number_(number) {}

// Of several moves of a workload the last one tells how it went, those before it where it is not to go.
void Evacuation::take_over(const StoredEvacuation& stored) {
  began_unix_ms_ = stored.created_unix_ms;
  cancelled_by_ = stored.cancelled_by;
  cancel_kept_ = cancelled_by_.has_value();
  for (const StoredMove& s : store_.moves(number_)) {
    const std::optional<Migration> m = store_.migration(s.migration);
    if (!m) continue;
    std::erase_if(moves_, [&](const Move& before) { return before.workload == m->spec.workload; });
    Move move{.workload = m->spec.workload,
              .state = MoveState::moving,
              .to = m->spec.destination,
              .migration = s.migration,
              .own = s.own,
              .taken_over = true};
    if (driver_.find(s.migration) || !settle(move)) moves_.push_back(std::move(move));
  }
}

awaitable<void> Evacuation::drive() {
  std::exception_ptr problem;
  try {
    fault::point("evacuation.begun");
    if (began_unix_ms_) co_await await_those_present();
    co_await move_all();
  } catch (...) {
    problem = std::current_exception();
  }
  if (driver_.stopping()) co_return;  // the next life of the coordinator goes on with it
  if (problem) {
    const Error e = net::to_error(problem);
    log::error("evacuation.broke_off", {{"node", request_.node}, {"message", e.message()}});
    let_stay(reason_of(e));
  }
  co_await end();
}

// Agents that have not come back yet would be taken for nodes that are lost.
awaitable<void> Evacuation::await_those_present() {
  const Clock::time_point deadline = Clock::now() + driver_.limits().patience;
  const auto back = [this](const std::string& node) {
    const auto found = registry_.nodes().find(node);
    return found != registry_.nodes().end() && found->second.up;
  };
  while (!std::ranges::all_of(request_.present, back) && Clock::now() < deadline && !driver_.stopping())
    co_await net::sleep_for(look_every);
}

// Whoever asks how it went is told from the journal: until the report is there, after a full disk say, it is under way.
awaitable<void> Evacuation::end() {
  total_s_ = so_far_s();
  Clock::duration pause = look_every;
  for (;;) {
    phase_ = Phase::ended;
    std::string why;
    try {
      store_.finish_evacuation(number_, report());
      break;
    } catch (const Error& e) {
      why = e.message();
    }
    phase_ = Phase::moving;
    log::error("evacuation.journal_failed", {{"node", request_.node}, {"message", why}});
    co_await net::sleep_for(pause);
    pause = std::min(2 * pause, most_pause);
    if (driver_.stopping()) co_return;
  }
  fault::point("evacuation.ended");
  log::info(
      "evacuation.ended",
      {{"node", request_.node}, {"moved", count(MoveState::moved)}, {"left", living().size()}, {"total_s", total_s_}});
}

awaitable<void> Evacuation::move_all() {
  co_await plan();
  phase_ = Phase::moving;
  while (!driver_.stopping()) {
    while (may_begin()) {
      Move* move = next_placed();
      if (!move) break;
      if (!usable(move->to)) {
        move->to.clear();
        co_await assign();
        continue;
      }
      begin(*move);
    }
    if (co_await settle_those_that_ended()) co_await plan();
    if (may_end()) {
      // Those that were on their way to this node when it was cordoned have arrived by now.
      const std::size_t known = moves_.size();
      co_await plan();
      if (moves_.size() == known && !awaits_start_) co_return;
    }
    co_await assign();
    co_await net::sleep_for(look_every);
  }
}

// What has arrived somewhere is no promise any more, but not before the node has said what it has left: another
// evacuation may be looking for room meanwhile. True when some are to be looked at anew.
awaitable<bool> Evacuation::settle_those_that_ended() {
  bool anew = false;
  for (std::size_t i = 0; i < moves_.size();) {
    if (moves_[i].state != MoveState::moving || driver_.find(moves_[i].migration)) {
      i++;
      continue;
    }
    const std::optional<Migration> ended = store_.migration(moves_[i].migration);
    if (ended && ended->outcome == Outcome::done) co_await agents_.refresh(ended->spec.destination);
    if (!settle(moves_[i])) continue;  // which is not moving any more
    moves_.erase(moves_.begin() + static_cast<std::ptrdiff_t>(i));
    anew = true;
  }
  co_return anew;
}

awaitable<void> Evacuation::plan() {
  co_await look();
  awaits_start_ = false;
  for (const WorkloadView& w : living()) {
    const std::string workload = w.info.name();
    if (std::ranges::any_of(moves_, [&](const Move& m) { return m.workload == workload; })) continue;
    Move move{.workload = workload};
    if (const std::string id = driver_.active_for(workload); !id.empty()) {
      const std::optional<Migration> other = store_.migration(id);
      if (!other || other->spec.source != request_.node) continue;  // it arrives; a later look will find it
      move.state = driver_.find(id) ? MoveState::moving : MoveState::unknown;
      move.migration = id;
      move.own = false;
      move.to = other->spec.destination;
      adopt(id);
    } else if (w.state == "starting" && may_wait_for(workload)) {
      awaits_start_ = true;  // a later look will find it running, or not at all
      continue;
    } else if (w.state != "running") {
      move.state = MoveState::stays;
      move.reason = not_now(w);
    }
    moves_.push_back(std::move(move));
    if (moves_.back().state == MoveState::waiting && !cancelled_by_) co_await survey(moves_.size() - 1);
  }
  if (cancelled_by_)
    let_stay(cancelled());
  else
    co_await assign();
}

bool Evacuation::may_wait_for(const std::string& starting) {
  if (number_ == 0 || cancelled_by_) return false;
  return Clock::now() - starting_.try_emplace(starting, Clock::now()).first->second < start_limit;
}

awaitable<void> Evacuation::look() {
  std::vector<std::string> up;
  for (const auto& [name, n] : registry_.nodes())
    if (n.up) up.push_back(name);
  for (const std::string& name : up) co_await agents_.refresh(name);
}

// By index: other coroutines may look at the list meanwhile, but only this one makes it longer.
awaitable<void> Evacuation::survey(std::size_t index) {
  std::exception_ptr problem;
  try {
    MigrationSpec spec = spec_of(moves_[index]);
    moves_[index].surveyed = co_await previewer_.survey(std::move(spec));
  } catch (const Error&) {
    problem = std::current_exception();
  }
  Move& move = moves_[index];
  if (problem) {
    move.reason = reason_of(net::to_error(problem));
  } else if (move.surveyed.refusals_size() > 0) {
    std::string all;
    for (const std::string& sentence : move.surveyed.refusals()) all += (all.empty() ? "" : "; ") + sentence;
    move.reason = Reason{Errc::refused, "cannot be moved: " + all, {}};
  }
  if (move.reason) move.state = MoveState::stays;
}

// Places whatever waits without a destination, and asks each destination; one that says no is not asked again. What
// fits nowhere while something is on its way waits for that: its memory counts twice until then, as promised and as
// used.
awaitable<void> Evacuation::assign() {
  for (bool all = false; !all;) {
    std::vector<Piece> pieces;
    for (const Move& m : moves_)
      if (m.state == MoveState::waiting && m.to.empty())
        pieces.push_back({.workload = m.workload,
                          .needed_bytes = needed(m),
                          .xfeatures = m.surveyed.xfeatures(),
                          .refused_by = refused_by_[m.workload]});
    if (pieces.empty()) co_return;
    std::vector<Seat> seats;
    for (const auto& [name, node] : registry_.nodes())
      if (request_.to.empty() || std::ranges::find(request_.to, name) != request_.to.end())
        seats.push_back(seat_of(node));
    std::vector<Move> in_order;
    for (const Placed& p : place(seat_of(registry_.node(request_.node)), std::move(pieces), std::move(seats))) {
      const auto found = std::ranges::find(moves_, p.workload, &Move::workload);
      found->to = p.node;
      found->reason.reset();
      if (p.node.empty()) {
        if (!may_fit_later()) found->state = MoveState::stays;
        found->reason = Reason{Errc::refused, "it fits nowhere: " + p.reason, "`godwit nodes` shows what is free"};
      }
      in_order.push_back(std::move(*found));
      moves_.erase(found);
    }
    const std::size_t first = moves_.size();
    std::ranges::move(in_order, std::back_inserter(moves_));
    all = true;
    for (std::size_t i = first; i < moves_.size(); i++)
      if (!moves_[i].to.empty() && !co_await accepted(i)) all = false;
  }
}

awaitable<bool> Evacuation::accepted(std::size_t index) {
  std::string why;
  std::exception_ptr problem;
  try {
    MigrationSpec spec = spec_of(moves_[index]);
    api::Surveyed surveyed = moves_[index].surveyed;
    const api::Checked checked = co_await previewer_.check(std::move(spec), std::move(surveyed));
    for (const std::string& sentence : checked.refusals()) why += (why.empty() ? "" : ", ") + sentence;
  } catch (const Error&) {
    problem = std::current_exception();
  }
  if (problem) why = net::to_error(problem).message();
  Move& move = moves_[index];
  if (why.empty()) {
    move.forecast = previewer_.forecast(spec_of(move), move.surveyed.resident_bytes());
    co_return true;
  }
  refused_by_[move.workload][move.to] = why;
  move.to.clear();
  co_return false;
}

bool Evacuation::may_begin() const {
  return !cancelled_by_ && count(MoveState::moving) < request_.parallel && count(MoveState::waiting) > 0;
}

// Nothing is under way, towards this node neither, and nothing begins.
bool Evacuation::may_end() const {
  if (count(MoveState::moving) > 0) return false;
  if (cancelled_by_) return true;
  if (count(MoveState::waiting) > 0) return false;
  for (const std::string& id : driver_.under_way())
    if (const auto run = driver_.find(id); run && run->migration().spec.destination == request_.node) return false;
  return true;
}

Move* Evacuation::next_placed() {
  const auto placed = [](const Move& m) { return m.state == MoveState::waiting && !m.to.empty(); };
  const auto found = std::ranges::find_if(moves_, placed);
  return found == moves_.end() ? nullptr : &*found;
}

bool Evacuation::may_fit_later() const {
  const auto may_take = [this](const std::string& node) {
    return node != request_.node && (request_.to.empty() || std::ranges::find(request_.to, node) != request_.to.end());
  };
  if (number_ == 0) return false;
  for (const std::string& id : driver_.under_way())
    if (const auto run = driver_.find(id); run && may_take(run->migration().spec.destination)) return true;
  return false;
}

bool Evacuation::usable(const std::string& node) const {
  const auto found = registry_.nodes().find(node);
  return found != registry_.nodes().end() && found->second.up && !found->second.cordon;
}

void Evacuation::begin(Move& move) {
  try {
    move.migration = driver_.start(spec_of(move), number_);
    move.state = MoveState::moving;
    fault::point("evacuation.moving");
  } catch (const Error& e) {
    if (e.errc() == Errc::already_exists) {  // there, since it was placed: another one may do
      refused_by_[move.workload][move.to] = e.message();
      move.to.clear();
      return;
    }
    move.state = MoveState::failed;
    move.reason = reason_of(e);
  }
}

// One that could not be kept would be moved by a later life of the coordinator, had it failed for good in this one.
void Evacuation::adopt(const std::string& migration) {
  if (number_ == 0) return;
  try {
    store_.adopt(number_, migration);
  } catch (const Error& e) {
    log::error("evacuation.journal_failed", {{"node", request_.node}, {"message", e.message()}});
  }
}

bool Evacuation::settle(Move& move) {
  const std::optional<Migration> m = store_.migration(move.migration);
  if (!m || !m->outcome || *m->outcome == Outcome::unknown) {
    move.state = MoveState::unknown;
    move.reason = m ? m->reason : std::nullopt;
    return false;
  }
  move.total_s = m->total_s;
  move.downtime_ns = m->downtime_ns;
  move.bytes = total_bytes(*m);
  if (*m->outcome == Outcome::done) {
    move.state = MoveState::moved;
    return false;
  }
  move.state = MoveState::failed;
  move.reason = m->reason;
  if (cancelled_by_) return false;
  if (*m->outcome == Outcome::rehearsed || was_interrupted(move, *m)) return true;
  if (!move.own || !try_elsewhere(*m)) return false;
  refused_by_[move.workload][move.to] = m->reason ? m->reason->message : "it went wrong there";
  return true;
}

// By no operator, but by the end of the coordinator. There is no reason when the agents have undone it by themselves.
bool Evacuation::was_interrupted(const Move& move, const Migration& ended) const {
  if (!move.taken_over || (ended.reason && ended.reason->code != Errc::cancelled)) return false;
  return std::ranges::none_of(store_.events(ended.id, 0), [](const StoredEvent& e) { return e.kind == "cancel"; });
}

void Evacuation::cancel(const std::string& by) {
  if (ended() || cancel_kept_) return;
  if (!cancelled_by_) cancelled_by_ = by;
  std::string why;
  // Whoever asks is promised that also a later life of the coordinator keeps to it.
  try {
    store_.cancel_evacuation(number_, *cancelled_by_);
    cancel_kept_ = true;
    fault::point("evacuation.cancelled");
  } catch (const Error& e) {
    why = e.message();
  }
  log::info("evacuation.cancel", {{"node", request_.node}, {"by", by}});
  let_stay(cancelled());
  for (Move& move : moves_) {
    if (move.state != MoveState::moving) continue;
    try {
      driver_.cancel(move.migration, by);
    } catch (const Error& e) {  // too late, or over
      log::info("evacuation.goes_on", {{"migration", move.migration}, {"message", e.message()}});
    }
  }
  if (!cancel_kept_)
    throw Error(Errc::internal, fmt::format("cancelled, but not kept: {}", why),
                "a coordinator that is restarted now does not know of it: make room, then cancel again");
}

void Evacuation::let_stay(const Reason& why) {
  for (Move& move : moves_) {
    if (move.state != MoveState::waiting) continue;
    move.state = MoveState::stays;
    move.to.clear();
    move.reason = why;
  }
}

Reason Evacuation::cancelled() const {
  const std::string by = cancelled_by_.value_or("");
  return {Errc::cancelled, "the evacuation was cancelled" + (by.empty() ? "" : " by " + by),
          fmt::format("`godwit evacuate {}` does the rest", request_.node)};
}

Seat Evacuation::seat_of(const Node& node) const {
  Seat seat{.node = node.name,
            .up = node.up,
            .cordoned = node.cordon.has_value(),
            .memory_available = node.info.memory_available(),
            .xfeatures = node.info.xfeatures(),
            .cpu_flags = {node.info.cpu_flags().begin(), node.info.cpu_flags().end()},
            .names = {}};
  for (const auto& [workload, info] : node.workloads)
    if (info.state() != "exited") seat.names.insert(workload);
  Promised promised = all_.promised_to(node.name);
  for (const auto& [workload, bytes] : promised_to(node.name))
    promised[workload] = std::max(promised[workload], bytes);  // of a dry run, which is in no list
  for (const auto& [workload, bytes] : promised) {
    seat.memory_available -= std::min(seat.memory_available, bytes);
    seat.names.insert(workload);
  }
  return seat;
}

Promised Evacuation::promised_to(const std::string& node) const {
  Promised promised;
  if (ended()) return promised;  // one that broke off may have left some on their way: the driver knows of those
  for (const Move& m : moves_)
    if (m.to == node && (m.state == MoveState::waiting || m.state == MoveState::moving))
      promised[m.workload] = needed(m);
  return promised;
}

MigrationSpec Evacuation::spec_of(const Move& move) const {
  MigrationSpec spec = request_.options;
  spec.workload = move.workload;
  spec.source = request_.node;
  spec.destination = move.to;
  return spec;
}

std::uint64_t Evacuation::needed(const Move& move) const {
  return move.surveyed.resident_bytes() + request_.options.spool_limit;
}

std::vector<WorkloadView> Evacuation::living() const {
  std::vector<WorkloadView> found;
  for (const WorkloadView& w : registry_.workloads())
    if (w.node == request_.node && w.state != "exited") found.push_back(w);
  return found;
}

std::size_t Evacuation::count(MoveState state) const {
  return static_cast<std::size_t>(std::ranges::count(moves_, state, &Move::state));
}

// Each in turn by whichever of the N has been idle longest.
double Evacuation::predicted_total_s() const {
  std::vector<double> lanes(request_.parallel, 0.0);
  for (const Move& m : moves_)
    if (!m.to.empty()) *std::ranges::min_element(lanes) += m.forecast.total_s;
  return std::ranges::max(lanes);
}

// Of one that was taken over, the time of day is all there is to measure by, and it may have been put back.
double Evacuation::so_far_s() const {
  if (!began_unix_ms_) return std::chrono::duration<double>(Clock::now() - began_).count();
  return static_cast<double>(std::max<std::int64_t>(0, unix_ms() - *began_unix_ms_)) / 1e3;
}

json Evacuation::report() const {
  json workloads = json::array();
  for (const Move& m : moves_) workloads.push_back(to_json(m));
  const auto node = registry_.nodes().find(request_.node);
  return {{"node", request_.node},
          {"state", phase_ == Phase::planning ? "planning"
                    : phase_ == Phase::moving ? "moving"
                                              : "ended"},
          {"cancelled_by", cancelled_by_ ? json(*cancelled_by_) : json()},
          {"cordoned", node != registry_.nodes().end() && node->second.cordon.has_value()},
          {"parallel", request_.parallel},
          {"empty", ended() ? json(living().empty()) : json()},
          {"predicted_total_s", predicted_total_s()},
          {"total_s", ended() ? total_s_ : so_far_s()},
          {"workloads", workloads}};
}

}  // namespace godwit::coordinator
