#include "agent/service/peer_link.h"

#include "agent/service/version.h"

namespace godwit::service {

net::awaitable<api::DestinationState> PeerLink::connect() {
  const auto self = shared_from_this();
  close();
  net::Connection connection =
      co_await net::connect(net::parse_address(plan_.address), context_.tls, context_.options.limits.dial);
  net::require(connection.peer(), "agent", plan_.node);
  net::Channel::Handlers handlers{.request = handlers_.request, .notice = handlers_.notice, .closed = handlers_.lost};
  channel_ = net::Channel::start(std::move(connection), std::move(handlers));
  const auto channel = channel_;
  api::Envelope hello;
  hello.mutable_peer_hello()->set_version(control_version);
  hello.mutable_peer_hello()->set_node(context_.options.node);
  fill(hello.mutable_peer_hello()->mutable_id(), plan_.key);
  hello.mutable_peer_hello()->set_commit_hash(plan_.commit_hash.data(), plan_.commit_hash.size());
  hello.mutable_peer_hello()->set_relay_key(plan_.relay_key.data(), plan_.relay_key.size());
  hello.mutable_peer_hello()->set_boot_id(context_.facts.boot_id);
  hello.mutable_peer_hello()->set_store_uuid(context_.records.store_uuid());
  const api::Envelope answer = co_await channel->ask(std::move(hello), context_.options.limits.question);
  if (!answer.has_destination_state()) fail(Errc::protocol, "{} does not answer a hello with its state", plan_.node);
  co_return answer.destination_state();
}

net::awaitable<api::Envelope> PeerLink::ask(api::Envelope request) {
  const auto self = shared_from_this();
  if (!connected()) co_await connect();
  const auto channel = channel_;
  co_return co_await channel->ask(std::move(request), context_.options.limits.question);
}

net::awaitable<void> PeerLink::post(api::Envelope notice) {
  const auto channel = channel_;
  if (!channel || !channel->is_open()) fail(Errc::peer_lost, "there is no connection to {}", plan_.node);
  co_await channel->post(std::move(notice));
}

void PeerLink::close() {
  if (channel_) channel_->close();
  channel_.reset();
}

}  // namespace godwit::service
