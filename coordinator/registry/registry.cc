#include "coordinator/registry/registry.h"

#include "common/base/log.h"
#include "coordinator/migration/json.h"

#include <fmt/ranges.h>

namespace godwit::coordinator {
namespace {

// More than any node runs; a hostile list shall not grow the journal without end.
constexpr int most_workloads = 10'000;

bool alive(const WorkloadView& w) { return w.state != "exited"; }

}  // namespace

Registry::Registry(Store& store) : store_(store) {
  for (const Placement& p : store_.placements()) {
    Node& node = nodes_[p.node];
    node.name = p.node;
    api::WorkloadInfo info;
    info.set_name(p.workload);
    info.set_id(p.copy);
    info.set_state(p.state);
    node.workloads[p.workload] = info;
  }
  read_cordons();
}

void Registry::read_cordons() {
  for (const Cordon& c : store_.cordons()) {
    nodes_[c.node].name = c.node;
    nodes_[c.node].cordon = c;
  }
}

void Registry::cordon(const std::string& name, const std::string& by) {
  node(name);
  if (nodes_[name].cordon) return;
  store_.cordon(name, by);
  read_cordons();
  log::info("node.cordoned", {{"node", name}, {"by", by}});
}

void Registry::uncordon(const std::string& name) {
  node(name);
  if (!nodes_[name].cordon) return;
  store_.uncordon(name);
  nodes_[name].cordon.reset();
  log::info("node.uncordoned", {{"node", name}});
}

void Registry::check_not_cordoned(const std::string& name) const {
  const std::optional<Cordon>& cordon = node(name).cordon;
  if (!cordon) return;
  throw Error(Errc::refused,
              fmt::format("node '{}' is cordoned{}: it takes no new workloads", name,
                          cordon->by.empty() ? "" : " by " + cordon->by),
              fmt::format("`godwit uncordon {}` lets it take some again, or choose another node", name));
}

std::shared_ptr<net::Channel> Registry::connected(const net::Identity& who, const api::Register& hello,
                                                  std::shared_ptr<net::Channel> channel) {
  if (hello.version() != control_version)
    throw Error(Errc::protocol,
                fmt::format("the agent speaks version {} of the control protocol, this coordinator {}", hello.version(),
                            control_version),
                "run the same release of godwit on all nodes and on the coordinator");
  check_name("node", hello.node());
  if (who.role != "agent" || who.name != hello.node())
    throw Error(Errc::denied, fmt::format("{} may not register as node '{}'", net::to_string(who), hello.node()),
                fmt::format("its certificate must carry spiffe://godwit/agent/{}", hello.node()));
  if (hello.workloads_size() > most_workloads)
    fail(Errc::protocol, "{} workloads on one node are too many", hello.workloads_size());

  Node& node = nodes_[hello.node()];
  node.name = hello.node();
  node.up = true;
  node.info = hello;
  node.info.clear_workloads();
  api::WorkloadList list;
  *list.mutable_workloads() = hello.workloads();
  std::shared_ptr<net::Channel> before = std::exchange(node.channel, std::move(channel));
  replace(hello.node(), list);
  return before;
}

bool Registry::lost(const std::string& name, const net::Channel* channel) {
  const auto it = nodes_.find(name);
  if (it == nodes_.end() || it->second.channel.get() != channel) return false;
  it->second.up = false;
  it->second.channel.reset();
  return true;
}

void Registry::remember(const std::string& node, const api::WorkloadInfo& w) {
  if (w.name().empty()) return;
  if (nodes_[node].workloads.size() >= most_workloads && !nodes_[node].workloads.contains(w.name())) return;
  for (const auto& [other, n] : nodes_) {
    const auto twin = n.workloads.find(w.name());
    if (other != node && twin != n.workloads.end() && twin->second.state() == "running" && w.state() == "running" &&
        n.up)
      log::warn("registry.duplicate_workload", {{"workload", w.name()}, {"node", node}, {"also", other}});
  }
  const auto known = nodes_[node].workloads.find(w.name());
  const bool same =
      known != nodes_[node].workloads.end() && known->second.state() == w.state() && known->second.id() == w.id();
  nodes_[node].workloads[w.name()] = w;
  if (!same) unsaved_.emplace(node, w.name());
}

void Registry::erase(const std::string& node, const std::string& workload) {
  const auto it = nodes_.find(node);
  if (it != nodes_.end() && it->second.workloads.erase(workload)) unsaved_.emplace(node, workload);
}

void Registry::save() {
  try {
    while (!unsaved_.empty()) {
      const auto& [node, workload] = *unsaved_.begin();
      const auto& there = nodes_.at(node).workloads;
      if (const auto w = there.find(workload); w != there.end())
        store_.place({.workload = workload, .node = node, .copy = w->second.id(), .state = w->second.state()});
      else
        store_.forget(workload, node);
      unsaved_.erase(unsaved_.begin());
    }
    save_failed_ = false;
  } catch (const Error& e) {
    if (!std::exchange(save_failed_, true)) log::error("registry.journal_failed", {{"message", e.message()}});
  }
}

void Registry::update(const std::string& node, const api::WorkloadInfo& workload) {
  if (!nodes_.contains(node)) return;
  remember(node, workload);
  save();
}

void Registry::replace(const std::string& node, const api::WorkloadList& list) {
  if (!nodes_.contains(node)) return;
  std::map<std::string, api::WorkloadInfo> before = nodes_[node].workloads;
  if (list.memory_available() > 0) nodes_[node].info.set_memory_available(list.memory_available());
  for (const api::WorkloadInfo& w : list.workloads()) {
    before.erase(w.name());
    remember(node, w);
  }
  for (const auto& [name, info] : before) erase(node, name);
  save();
}

void Registry::gone(const std::string& node, const std::string& workload) {
  erase(node, workload);
  save();
}

const Node& Registry::node(const std::string& name) const {
  const auto it = nodes_.find(name);
  if (it != nodes_.end()) return it->second;
  std::vector<std::string> known;
  for (const auto& [n, node] : nodes_) known.push_back(n);
  throw Error(Errc::not_found, fmt::format("no node '{}'", name),
              known.empty() ? std::string("no agent has registered yet")
                            : fmt::format("known nodes: {}", fmt::join(known, ", ")));
}

std::shared_ptr<net::Channel> Registry::channel(const std::string& name) const {
  const Node& n = node(name);
  if (!n.up || !n.channel)
    throw Error(Errc::peer_lost, fmt::format("node '{}' is not connected", name),
                "see `godwit nodes`; is its agent running?");
  return n.channel;
}

std::vector<WorkloadView> Registry::workloads() const {
  std::map<std::pair<std::string, std::string>, WorkloadView> sorted;
  for (const auto& [name, node] : nodes_)
    for (const auto& [workload, info] : node.workloads)
      sorted[{workload, name}] = {.node = name, .state = node.up ? info.state() : "unknown", .info = info};
  std::vector<WorkloadView> views;
  for (auto& [key, view] : sorted) views.push_back(std::move(view));
  return views;
}

WorkloadView Registry::find(const std::string& workload, const std::string& on) const {
  if (!on.empty()) node(on);
  std::optional<WorkloadView> exited, held;
  std::vector<WorkloadView> living;
  for (const WorkloadView& w : workloads()) {
    if (w.info.name() != workload || (!on.empty() && w.node != on)) continue;
    if (!alive(w))
      exited = w;
    else if (w.state == "running" || w.state == "unknown")
      living.push_back(w);
    else
      held = w;  // frozen or prepared: one of two copies during a migration
  }
  if (living.size() > 1) {
    std::vector<std::string> where;
    for (const WorkloadView& w : living) where.push_back(w.node);
    throw Error(Errc::already_exists,
                fmt::format("several nodes have a workload '{}': {}", workload, fmt::join(where, ", ")),
                "say which one with --from NODE");
  }
  const std::optional<WorkloadView> found = living.empty() ? held : std::optional(living.front());
  if (found) {
    if (found->state == "unknown")
      throw Error(
          Errc::peer_lost,
          fmt::format("workload '{}' was last seen on node '{}', which is not connected", workload, found->node),
          "see `godwit nodes`; is its agent running?");
    return *found;
  }
  if (exited)
    throw Error(
        Errc::target_gone,
        fmt::format("workload '{}' on '{}' has exited with code {}", workload, exited->node, exited->info.exit_code()),
        "start it again with `godwit run`");
  throw Error(Errc::not_found,
              on.empty() ? fmt::format("no workload '{}'", workload)
                         : fmt::format("no workload '{}' on node '{}'", workload, on),
              "`godwit ps` lists the workloads");
}

}  // namespace godwit::coordinator
