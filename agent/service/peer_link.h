// The source's channel to the destination's agent: dialled when it is needed, introduced by PeerHello, dialled again
// after it was lost. On the executor's thread. Errors: peer_lost, timed_out, denied, and what the peer says.
#pragma once

#include "agent/service/context.h"
#include "common/net/channel.h"

#include <array>
#include <functional>
#include <memory>
#include <string>

namespace godwit::service {

struct PeerPlan {
  Key key;
  std::string node;  // that its certificate must name
  std::string address;
  std::array<std::uint8_t, 32> commit_hash{}, relay_key{};
};

class PeerLink : public std::enable_shared_from_this<PeerLink> {
 public:
  struct Handlers {
    std::function<net::awaitable<api::Envelope>(api::Envelope)> request;
    std::function<net::awaitable<void>(api::Envelope)> notice;
    std::function<void(Error)> lost;
  };

  PeerLink(Context& context, PeerPlan plan, Handlers handlers)
      : context_(context), plan_(std::move(plan)), handlers_(std::move(handlers)) {}

  net::awaitable<api::DestinationState> connect();
  net::awaitable<api::Envelope> ask(api::Envelope request);  // connects when there is no connection
  net::awaitable<void> post(api::Envelope notice);           // peer_lost when there is none
  bool connected() const { return channel_ && channel_->is_open(); }
  void close();

 private:
  Context& context_;
  PeerPlan plan_;
  Handlers handlers_;
  std::shared_ptr<net::Channel> channel_;
};

}  // namespace godwit::service
