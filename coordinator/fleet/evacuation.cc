#include "coordinator/fleet/evacuation.h"

#include "common/base/log.h"
#include "coordinator/migration/json.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto look_every = 100ms;  // at the migrations: they take longer
constexpr auto start_limit = 15s;   // an agent gives up a start after ten

// These speak of the destination: another one may do.
bool try_elsewhere(const Migration& m) {
  if (m.outcome == Outcome::refused) return true;
  return m.outcome == Outcome::rolled_back && m.reason &&
         (m.reason->code == Errc::peer_lost || m.reason->code == Errc::no_space || m.reason->code == Errc::timed_out);
}

Reason reason_of(const Error& e) { return {e.errc(), e.message(), e.hint()}; }

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
                       EvacuationRequest request)
    : registry_(registry),
      driver_(driver),
      store_(store),
      agents_(agents),
      all_(all),
      previewer_(store, registry, driver),
      request_(std::move(request)) {}

awaitable<void> Evacuation::drive() {
  driven_ = true;
  std::exception_ptr problem;
  try {
    co_await move_all();
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {
    const Error e = net::to_error(problem);
    log::error("evacuation.broke_off", {{"node", request_.node}, {"message", e.message()}});
    let_stay(reason_of(e));
  }
  total_s_ = std::chrono::duration<double>(Clock::now() - began_).count();
  phase_ = Phase::ended;
  log::info(
      "evacuation.ended",
      {{"node", request_.node}, {"moved", count(MoveState::moved)}, {"left", living().size()}, {"total_s", total_s_}});
}

awaitable<void> Evacuation::move_all() {
  co_await plan();
  phase_ = Phase::moving;
  for (;;) {
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
    co_await settle_those_that_ended();
    // A rehearsal that was under way before has left the workload where it was: it is looked at anew.
    std::erase_if(moves_, [this](const Move& m) {
      if (m.state != MoveState::failed || m.migration.empty()) return false;
      const std::optional<Migration> ended = store_.migration(m.migration);
      return ended && ended->outcome == Outcome::rehearsed;
    });
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
// evacuation may be looking for room meanwhile.
awaitable<void> Evacuation::settle_those_that_ended() {
  for (std::size_t i = 0; i < moves_.size(); i++) {
    if (moves_[i].state != MoveState::moving || driver_.find(moves_[i].migration)) continue;
    const std::optional<Migration> ended = store_.migration(moves_[i].migration);
    if (ended && ended->outcome == Outcome::done) co_await agents_.refresh(ended->spec.destination);
    settle(moves_[i]);
  }
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
      move.to = other->spec.destination;
    } else if (w.state == "starting" && may_wait_for(workload)) {
      awaits_start_ = true;  // a later look will find it running, or not at all
      continue;
    } else if (w.state != "running") {
      move.state = MoveState::stays;
      move.reason = Reason{Errc::busy, fmt::format("it is {}", w.state), "`godwit ps` shows when it runs again"};
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
  if (!driven_ || cancelled_by_) return false;
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
                          .refused_by = m.refused_by});
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
  move.refused_by[move.to] = why;
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
  if (!driven_) return false;
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
    move.migration = driver_.start(spec_of(move));
    move.state = MoveState::moving;
  } catch (const Error& e) {
    if (e.errc() == Errc::already_exists) {  // there, since it was placed: another one may do
      move.refused_by[move.to] = e.message();
      move.to.clear();
      return;
    }
    move.state = MoveState::failed;
    move.reason = reason_of(e);
    if (driver_.stopping()) cancel("the coordinator, which is shutting down");
  }
}

void Evacuation::settle(Move& move) {
  const std::optional<Migration> m = store_.migration(move.migration);
  if (!m || !m->outcome || *m->outcome == Outcome::unknown) {
    move.state = MoveState::unknown;
    move.reason = m ? m->reason : std::nullopt;
    return;
  }
  move.total_s = m->total_s;
  move.downtime_ns = m->downtime_ns;
  move.bytes = total_bytes(*m);
  if (*m->outcome == Outcome::done) {
    move.state = MoveState::moved;
    return;
  }
  move.state = MoveState::failed;
  move.reason = m->reason;
  // One that somebody else had begun was never surveyed here.
  if (cancelled_by_ || !try_elsewhere(*m) || move.surveyed.engine().empty()) return;
  move.refused_by[move.to] = m->reason ? m->reason->message : "it went wrong there";
  move.to.clear();
  move.reason.reset();
  move.state = MoveState::waiting;
}

void Evacuation::cancel(const std::string& by) {
  if (ended() || cancelled_by_) return;
  cancelled_by_ = by;
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

json Evacuation::report() const {
  json workloads = json::array();
  for (const Move& m : moves_) workloads.push_back(to_json(m));
  const double so_far = std::chrono::duration<double>(Clock::now() - began_).count();
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
          {"total_s", ended() ? total_s_ : so_far},
          {"workloads", workloads}};
}

std::shared_ptr<Evacuation> Evacuations::prepare(EvacuationRequest request) {
  registry_.channel(request.node);
  for (const std::string& node : request.to) {
    registry_.node(node);
    if (node == request.node)
      throw Error(Errc::invalid_argument, fmt::format("node '{}' cannot be evacuated to itself", node),
                  "`godwit nodes` lists the others");
  }
  return std::make_shared<Evacuation>(registry_, driver_, store_, agents_, *this, std::move(request));
}

std::shared_ptr<Evacuation> Evacuations::start(EvacuationRequest request) {
  const std::string node = request.node;
  if (const auto it = evacuations_.find(node); it != evacuations_.end() && !it->second->ended())
    throw Error(Errc::busy, fmt::format("node '{}' is being evacuated already", node),
                fmt::format("`godwit cancel {}` ends that", node));
  const std::string by = request.by;
  const std::shared_ptr<Evacuation> made = prepare(std::move(request));
  registry_.cordon(node, by);
  evacuations_[node] = made;
  net::spawn(executor_, made->drive(), [made](std::exception_ptr) {});
  return made;
}

std::shared_ptr<Evacuation> Evacuations::find(const std::string& node) const {
  const auto it = evacuations_.find(node);
  if (it == evacuations_.end())
    throw Error(Errc::not_found, fmt::format("node '{}' is not being evacuated", node),
                "a coordinator that was restarted has forgotten its evacuations; begin it again");
  return it->second;
}

Promised Evacuations::promised_to(const std::string& node) const {
  Promised promised;
  for (const std::string& id : driver_.under_way())
    if (const auto run = driver_.find(id); run && run->migration().spec.destination == node)
      promised[run->migration().spec.workload] = run->needed_bytes();
  for (const auto& [from, evacuation] : evacuations_)
    for (const auto& [workload, bytes] : evacuation->promised_to(node))
      promised[workload] = std::max(promised[workload], bytes);
  return promised;
}

void Evacuations::cancel(const std::string& node, const std::string& by) {
  const std::shared_ptr<Evacuation> evacuation = find(node);
  if (evacuation->ended())
    throw Error(Errc::not_found, fmt::format("the evacuation of node '{}' has ended", node),
                "`godwit ps` shows what is where");
  evacuation->cancel(by);
}

}  // namespace godwit::coordinator
