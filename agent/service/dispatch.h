// Which request goes where: what the coordinator may ask of an agent, and what a peer may. On the executor's thread.
#pragma once

#include "agent/service/migrations.h"
#include "common/net/channel.h"

namespace godwit::service {

// From the coordinator, whose role has been checked.
net::awaitable<api::Envelope> answer_coordinator(Context& context, Migrations& migrations, api::Envelope request);

// One connection of a peer agent. It speaks for migrations whose source it is, by its certificate, and for no others.
net::awaitable<void> serve_peer(Context& context, Migrations& migrations, net::Connection connection);

}  // namespace godwit::service
