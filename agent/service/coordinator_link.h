// The agent's connection to the coordinator: dials, registers, answers, and dials again, for ever. Losing it stops
// nothing: workloads run, and migrations are decided among the agents. On the executor's thread.
#pragma once

#include "agent/service/migrations.h"
#include "common/net/channel.h"

#include <memory>

namespace godwit::service {

class CoordinatorLink : public std::enable_shared_from_this<CoordinatorLink> {
 public:
  CoordinatorLink(Context& context, Migrations& migrations) : context_(context), migrations_(migrations) {}

  net::awaitable<void> run();
  void tell(api::Envelope notice);
  net::awaitable<api::Envelope> ask(api::Envelope request);  // Errc::peer_lost while there is no connection
  void stop();

 private:
  net::awaitable<void> serve_once();
  api::Envelope registration() const;

  Context& context_;
  Migrations& migrations_;
  std::shared_ptr<net::Channel> channel_;
  bool registered_ = false;
  bool stopped_ = false;
};

}  // namespace godwit::service
