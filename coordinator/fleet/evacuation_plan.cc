// What of an evacuation moves where: looked at again and again, since nodes fill up and workloads come.
#include "coordinator/fleet/evacuation.h"
#include "coordinator/fleet/evacuations.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using namespace std::chrono_literals;

constexpr auto start_limit = 15s;  // an agent gives up a start after ten

Reason not_now(const WorkloadView& w) {
  if (w.state == "unknown")
    return {Errc::peer_lost, fmt::format("node '{}' is not connected", w.node),
            "see `godwit nodes`; is its agent running?"};
  return {Errc::busy, fmt::format("it is {}", w.state), "`godwit ps` shows when it runs again"};
}

}  // namespace

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

bool Evacuation::may_fit_later() const {
  const auto may_take = [this](const std::string& node) {
    return node != request_.node && (request_.to.empty() || std::ranges::find(request_.to, node) != request_.to.end());
  };
  if (number_ == 0) return false;
  for (const std::string& id : driver_.under_way())
    if (const auto run = driver_.find(id); run && may_take(run->migration().spec.destination)) return true;
  return false;
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

std::uint64_t Evacuation::needed(const Move& move) const {
  return move.surveyed.resident_bytes() + request_.options.spool_limit;
}

}  // namespace godwit::coordinator
