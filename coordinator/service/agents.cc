#include "coordinator/service/agents.h"

#include "common/base/log.h"

namespace godwit::coordinator {
namespace {

using net::awaitable;
using namespace std::chrono_literals;

constexpr auto time_to_register = 10s;  // a peer that says nothing keeps nothing open
constexpr auto look_every = 5s;  // workloads come and go; a silent connection is found dead in this plus the next
constexpr auto look_limit = 15s;
constexpr auto relay_limit = 5s;
constexpr auto notice_replaced = 1s;  // close() of a replaced channel tells nobody

}  // namespace

struct AgentService::Session {
  explicit Session(net::Executor executor) : changed(std::move(executor)) {}
  net::Signal changed;
  std::weak_ptr<net::Channel> channel;               // its handlers own this session
  std::string node;                                  // empty until registered
  Error why{Errc::timed_out, "it does not answer"};  // that it has ended
  bool closed = false;
};

awaitable<void> AgentService::serve(net::Connection connection) {
  const std::string address = connection.address();
  net::require(connection.peer(), "agent");
  auto session = std::make_shared<Session>(executor_);
  net::Channel::Handlers handlers;
  handlers.request = [this, session](api::Envelope e) { return answer(session, std::move(e)); };
  handlers.notice = [this, session](api::Envelope e) { return notice(session, std::move(e)); };
  handlers.closed = [session](Error why) {
    session->closed = true;
    session->why = std::move(why);
    session->changed.notify();
  };
  const std::shared_ptr<net::Channel> channel = net::Channel::start(std::move(connection), std::move(handlers));
  session->channel = channel;
  session->changed.notify();

  const Clock::time_point patience = Clock::now() + time_to_register;
  while (session->node.empty() && channel->is_open() && Clock::now() < patience)
    co_await session->changed.wait_until(patience);
  if (session->node.empty()) {
    log::warn("agent.did_not_register",
              {{"peer", address}, {"code", name(session->why.errc())}, {"reason", session->why.message()}});
    channel->close();
    co_return;
  }
  Clock::time_point look = Clock::now() + look_every;
  while (channel->is_open()) {
    if (Clock::now() >= look) {
      const bool heard = co_await refresh(session->node, look_limit);
      look = Clock::now() + look_every;
      if (heard) continue;
      // The node is gone without a goodbye.
      channel->close();
    }
    if (channel->is_open()) co_await session->changed.wait_until(std::min(look, Clock::now() + notice_replaced));
  }
  if (registry_.lost(session->node, channel.get()))
    log::warn("node.lost", {{"node", session->node},
                            {"peer", address},
                            {"code", name(session->why.errc())},
                            {"reason", session->why.message()}});
}

awaitable<api::Envelope> AgentService::answer(std::shared_ptr<Session> session, api::Envelope request) {
  if (request.has_relay()) co_return co_await pass_on(session, std::move(request));
  if (!request.has_register_()) fail(Errc::unsupported, "the coordinator answers Register and Relay only");
  // A request that came with the handshake is read before Channel::start() has returned.
  while (session->channel.expired() && !session->closed)
    co_await session->changed.wait_until(Clock::now() + notice_replaced);
  const std::shared_ptr<net::Channel> channel = session->channel.lock();
  if (!channel) fail(Errc::peer_lost, "the connection has gone");
  const std::shared_ptr<net::Channel> before = registry_.connected(channel->peer(), request.register_(), channel);
  session->node = request.register_().node();
  log::info(
      "node.up",
      {{"node", session->node}, {"peer", channel->address()}, {"workloads", request.register_().workloads_size()}});
  if (before && before != channel) before->close();
  session->changed.notify();
  driver_.node_returned(session->node);
  api::Envelope reply;
  reply.mutable_registered()->set_version(control_version);
  co_return reply;
}

// From one agent to another, where they cannot reach each other. What is in it is theirs: they check each other's word.
awaitable<api::Envelope> AgentService::pass_on(std::shared_ptr<Session> session, api::Envelope request) {
  if (session->node.empty() || registry_.node(session->node).channel != session->channel.lock())
    fail(Errc::denied, "nothing is passed on for an agent that is not registered");
  const std::string to = request.relay().to_node();
  if (to == session->node) fail(Errc::invalid_argument, "an agent has to ask itself by itself");
  const std::shared_ptr<net::Channel> channel = registry_.channel(to);
  api::Envelope passed;
  *passed.mutable_relay() = std::move(*request.mutable_relay());
  const api::Envelope answer = co_await channel->ask(std::move(passed), relay_limit);
  if (!answer.has_relay()) fail(Errc::protocol, "node '{}' does not answer what was passed on to it", to);
  log::debug("agent.relayed", {{"from", session->node}, {"to", to}, {"migration", answer.relay().id().migration()}});
  api::Envelope reply;
  *reply.mutable_relay() = answer.relay();
  co_return reply;
}

awaitable<void> AgentService::notice(std::shared_ptr<Session> session, api::Envelope notice) {
  // What an agent says before it has registered, or after another connection took its place, concerns nobody.
  if (session->node.empty() || registry_.node(session->node).channel != session->channel.lock()) co_return;
  try {
    take(*session, notice);
  } catch (const Error& e) {  // a journal that cannot be written, say, is no reason to lose the agent
    log::error("agent.notice_failed", {{"node", session->node}, {"message", e.message()}});
  }
}

void AgentService::take(const Session& session, const api::Envelope& notice) {
  if (notice.has_progress()) driver_.progress(session.node, notice.progress());
  if (notice.has_alarm()) driver_.alarm(session.node, notice.alarm());
  if (notice.has_workload_exited()) {
    api::WorkloadInfo info = notice.workload_exited().workload();
    info.set_state("exited");
    log::info("workload.exited", {{"workload", info.name()}, {"node", session.node}, {"exit_code", info.exit_code()}});
    registry_.update(session.node, info);
  }
}

awaitable<bool> AgentService::refresh(std::string node, Clock::duration limit) {
  std::exception_ptr problem;
  try {
    const std::shared_ptr<net::Channel> channel = registry_.channel(node);
    api::Envelope request;
    request.mutable_list_workloads();
    const api::Envelope reply = co_await channel->ask(std::move(request), limit);
    if (reply.has_workload_list() && registry_.node(node).channel == channel)
      registry_.replace(node, reply.workload_list());
    co_return true;
  } catch (const Error&) {
    problem = std::current_exception();
  }
  const Error e = net::to_error(problem);
  log::debug("agent.does_not_list", {{"node", node}, {"message", e.message()}});
  co_return e.errc() != Errc::timed_out;
}

}  // namespace godwit::coordinator
