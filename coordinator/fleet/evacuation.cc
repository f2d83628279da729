#include "coordinator/fleet/evacuation.h"

#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/wall_clock.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto look_every = 100ms;           // at the migrations: they take longer
constexpr Clock::duration most_pause = 10s;  // between two attempts to journal the end

// These speak of the destination: another one may do.
bool try_elsewhere(const Migration& m) {
  if (m.outcome == Outcome::refused) return true;
  return m.outcome == Outcome::rolled_back && m.reason &&
         (m.reason->code == Errc::peer_lost || m.reason->code == Errc::no_space || m.reason->code == Errc::timed_out);
}

}  // namespace

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

MigrationSpec Evacuation::spec_of(const Move& move) const {
  MigrationSpec spec = request_.options;
  spec.workload = move.workload;
  spec.source = request_.node;
  spec.destination = move.to;
  return spec;
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

// Each in turn by whichever of the N has been idle longest. They leave by the same link, though, which does not send
// more for N than for one: all bytes take as long as one after the other, beside the one beginning that no other hides.
double Evacuation::predicted_total_s() const {
  std::vector<double> lanes(request_.parallel, 0.0);
  double link_s = 0, longest_setup_s = 0;
  for (const Move& m : moves_) {
    if (m.to.empty() || m.forecast.rate <= 0) continue;
    const auto bytes = static_cast<double>(m.forecast.bytes);
    *std::ranges::min_element(lanes) += m.forecast.total_s;
    link_s += bytes / m.forecast.path_rate;
    longest_setup_s = std::max(longest_setup_s, m.forecast.total_s - bytes / m.forecast.rate);
  }
  return std::max(std::ranges::max(lanes), link_s + longest_setup_s);
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
