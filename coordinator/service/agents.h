// Where agents dial in: one connection per node, kept open. The first request is Register; from then on the coordinator
// asks over the same connection, and asks for the workloads now and then, which also finds dead connections.
#pragma once

#include "common/net/channel.h"
#include "common/net/listener.h"
#include "coordinator/migration/driver.h"
#include "coordinator/registry/registry.h"

#include <memory>

namespace godwit::coordinator {

class AgentService {
 public:
  // Both must outlive the io_context's last step.
  AgentService(net::Executor executor, Registry& registry, Driver& driver)
      : executor_(std::move(executor)), registry_(registry), driver_(driver) {}

  net::awaitable<void> serve(net::Connection connection);  // for net::Listener

  // Asks `node` what runs there and takes it over. False when an open connection brought no answer in time; every
  // other failure shows elsewhere.
  net::awaitable<bool> refresh(std::string node, Clock::duration limit = std::chrono::seconds(3));

 private:
  struct Session;
  net::awaitable<api::Envelope> pass_on(std::shared_ptr<Session> session, api::Envelope relay);
  net::awaitable<api::Envelope> answer(std::shared_ptr<Session> session, api::Envelope request);
  net::awaitable<void> notice(std::shared_ptr<Session> session, api::Envelope notice);
  void take(const Session& session, const api::Envelope& notice);

  net::Executor executor_;
  Registry& registry_;
  Driver& driver_;
};

}  // namespace godwit::coordinator
