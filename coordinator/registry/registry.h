// Who is there: nodes by their agents' Register, workloads by what the agents say. In memory, one thread; what must
// outlive a node's connection (where a workload was last seen) is in the Store. Where that cannot be written, on a full
// disk say, it is tried again with the next news: no agent is lost for it, and no migration held up.
//
// A node is `up` while its channel is open. A newer connection of the same node replaces the older one: an agent that
// was cut off comes back before its old connection is found dead.
#pragma once

#include "common/api/control.pb.h"
#include "common/net/channel.h"
#include "coordinator/store/store.h"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace godwit::coordinator {

inline constexpr std::uint32_t control_version = 5;

struct Node {
  std::string name;
  bool up = false;
  api::Register info;                     // as of the last registration; empty when known from the journal only
  std::shared_ptr<net::Channel> channel;  // null while down
  std::map<std::string, api::WorkloadInfo> workloads;
  std::optional<Cordon> cordon;
};

// One copy of a workload as people see it. `state` is the agent's word, or "unknown" while its node is lost.
struct WorkloadView {
  std::string node;
  std::string state;
  api::WorkloadInfo info;
};

class Registry {
 public:
  explicit Registry(Store& store);

  // Errc::denied when the certificate is not an agent's or names another node; Errc::protocol when the version or a
  // member is none. Returns the connection that was replaced, to be closed.
  std::shared_ptr<net::Channel> connected(const net::Identity& who, const api::Register& hello,
                                          std::shared_ptr<net::Channel> channel);
  // The channel has closed. False when it had been replaced before.
  bool lost(const std::string& node, const net::Channel* channel);

  void update(const std::string& node, const api::WorkloadInfo& workload);
  void replace(const std::string& node, const api::WorkloadList& list);
  void gone(const std::string& node, const std::string& workload);

  // A cordoned node takes no new workloads, started or moved; what is on its way goes on. Errc::not_found.
  void cordon(const std::string& node, const std::string& by);
  void uncordon(const std::string& node);
  void read_cordons();  // anew: somebody has journaled one together with something else
  void check_not_cordoned(const std::string& node) const;  // Errc::refused

  const std::map<std::string, Node>& nodes() const { return nodes_; }
  const Node& node(const std::string& name) const;                       // Errc::not_found lists those that are known
  std::shared_ptr<net::Channel> channel(const std::string& node) const;  // Errc::peer_lost while it is down
  std::vector<WorkloadView> workloads() const;                           // by name, then node

  // Where `workload` is. Errc::not_found; Errc::target_gone when it has exited; Errc::already_exists when several nodes
  // have a living one; Errc::peer_lost when its node is down. A non-empty `node` narrows the search.
  WorkloadView find(const std::string& workload, const std::string& node = {}) const;

 private:
  void remember(const std::string& node, const api::WorkloadInfo& workload);
  void erase(const std::string& node, const std::string& workload);
  void save();

  Store& store_;
  std::map<std::string, Node> nodes_;
  std::set<std::pair<std::string, std::string>> unsaved_;  // node and workload: not in the journal as it is here
  bool save_failed_ = false;
};

}  // namespace godwit::coordinator
