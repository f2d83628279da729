// All evacuations: who may begin one, and which are under way.
#pragma once

#include "coordinator/fleet/evacuation.h"

namespace godwit::coordinator {

// One per node at a time; the last one of each node can still be asked for, also of an earlier life of the coordinator.
class Evacuations {
 public:
  Evacuations(net::Executor executor, Registry& registry, Driver& driver, Store& store, AgentService& agents)
      : executor_(std::move(executor)), registry_(registry), driver_(driver), store_(store), agents_(agents) {}

  // Errors: not_found, invalid_argument, peer_lost, busy.
  std::shared_ptr<Evacuation> prepare(EvacuationRequest request);  // for a dry run: plan() and report()
  void start(EvacuationRequest request);                 // journals it and cordons the node, or throws why it cannot be
  nlohmann::json report(const std::string& node) const;  // Errc::not_found
  void cancel(const std::string& node, const std::string& by);  // Errc::not_found when none is under way

  // Drives on what an earlier life of the coordinator left unfinished. Once, at the start, after the driver's.
  void resume();

  // By all evacuations, and by the migrations that were asked for one by one.
  Promised promised_to(const std::string& node) const;

 private:
  void check(const EvacuationRequest& request) const;
  std::shared_ptr<Evacuation> make(EvacuationRequest request, std::int64_t number);
  void launch(const std::string& node, std::shared_ptr<Evacuation> evacuation);

  net::Executor executor_;
  Registry& registry_;
  Driver& driver_;
  Store& store_;
  AgentService& agents_;
  std::map<std::string, std::shared_ptr<Evacuation>> evacuations_;
};

}  // namespace godwit::coordinator
