// One node's agent: everything that there is one of, made in order, and taken down in the reverse.
//
// On one io_context and its thread. What it has started (workloads) outlives it; what it is doing (migrations) is in
// the records, and the next life goes on from there.
#pragma once

#include "agent/service/coordinator_link.h"
#include "agent/service/migrations.h"
#include "agent/service/trackers.h"
#include "common/net/listener.h"

#include <memory>
#include <optional>
#include <string>

namespace godwit::service {

class Agent {
 public:
  // Reads certificates and records; throws what is wrong with them or the options. `trackers` is the path of a socket
  // for dumps by hand that need a tracker kept; empty: none.
  Agent(net::Executor executor, AgentOptions options, std::string trackers = {});
  ~Agent();

  // Recovers what the last life left, then serves. Returns when it is serving.
  net::awaitable<void> start();
  // Ends serving; workloads run on.
  net::awaitable<void> stop();

  Context& context() { return context_; }
  Migrations& migrations() { return migrations_; }

 private:
  void tell_exited(api::WorkloadInfo info);

  std::string trackers_path_;
  Context context_;
  Migrations migrations_;
  std::shared_ptr<CoordinatorLink> coordinator_;
  std::optional<net::Listener> listener_;
  std::optional<Trackers> trackers_;
};

}  // namespace godwit::service
