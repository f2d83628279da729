#include "agent/service/dispatch.h"

#include "agent/service/facts.h"
#include "agent/service/preview.h"
#include "agent/service/relay.h"
#include "agent/service/version.h"
#include "common/base/log.h"

#include <csignal>

namespace godwit::service {
namespace {

using net::awaitable;

awaitable<api::Envelope> value(api::Envelope envelope) { co_return envelope; }

api::Envelope ok() {
  api::Envelope answer;
  answer.mutable_ok();
  return answer;
}

api::Envelope list(Context& context) {
  api::Envelope answer;
  answer.mutable_workload_list();
  for (api::WorkloadInfo& info : context.workloads->list())
    *answer.mutable_workload_list()->add_workloads() = std::move(info);
  answer.mutable_workload_list()->set_memory_available(memory_available());
  return answer;
}

awaitable<api::Envelope> run(Context& context, api::RunWorkload request) {
  api::Envelope answer;
  *answer.mutable_workload() = co_await context.workloads->run(std::move(request));
  co_return answer;
}

api::Envelope kill(Context& context, const api::KillWorkload& request) {
  const int signal = request.signal() == 0 ? SIGTERM : static_cast<int>(request.signal());
  if (signal < 0 || signal > SIGRTMAX) fail(Errc::invalid_argument, "{} is no signal", signal);
  context.workloads->kill(request.name(), signal);
  return ok();
}

// What all migrations from here may send together.
api::Envelope set_node_rate(Context& context, const api::SetRate& request) {
  context.rate->set_cap(request.rate_limit());
  log::info("node.rate", {{"bytes_per_second", request.rate_limit()}});
  return ok();
}

// What one peer's connection stands for.
struct Peer {
  Context& context;
  Migrations& migrations;
  net::Identity identity;
  std::weak_ptr<net::Channel> channel;  // not yet set while the first message is handled inside Channel::start()

  bool knows(const api::MigrationId& id) const { return migrations.is_known(id, Side::destination); }
  void check_speaks_for(const api::MigrationId& id) const {
    if (const std::string source = migrations.source_node(id); !source.empty()) net::require(identity, "agent", source);
  }
  std::shared_ptr<DestinationMigration> migration_of(const api::MigrationId& id) const {
    check_speaks_for(id);
    return migrations.destination(id);
  }
};

awaitable<api::Envelope> answer_peer(std::shared_ptr<Peer> peer, api::Envelope request) {
  switch (request.body_case()) {
    case api::Envelope::kPeerHello: {
      const api::PeerHello& hello = request.peer_hello();
      check_version(hello.version(), "the source's agent");
      net::require(peer->identity, "agent", hello.node());
      if (!peer->knows(hello.id())) co_return peer->migrations.destination_state(hello.id());
      if (peer->channel.expired()) co_await net::sleep_for(std::chrono::milliseconds(1));
      co_return peer->migration_of(hello.id())->hello(hello, peer->channel);
    }
    case api::Envelope::kQuery:
      peer->check_speaks_for(request.query().id());
      co_return peer->migrations.destination_state(request.query().id());
    case api::Envelope::kRefuse: co_return co_await peer->migration_of(request.refuse().id())->refuse();
    case api::Envelope::kSettled:
      co_return co_await peer->migration_of(request.settled().id())->settled(request.settled());
    case api::Envelope::kDrain: co_return co_await peer->migration_of(request.drain().id())->drain(request.drain());
    default: fail(Errc::unsupported, "an agent does not answer this to another");
  }
}

awaitable<void> note_peer(std::shared_ptr<Peer> peer, api::Envelope notice) {
  if (!notice.has_manifest() || !peer->knows(notice.manifest().id())) co_return;
  const auto migration = peer->migration_of(notice.manifest().id());
  co_await migration->manifest(std::move(*notice.mutable_manifest()->mutable_entries()));
}

awaitable<api::Envelope> relayed(Migrations& m, const api::Relay& relay) {
  if (!m.is_known(relay.id(), relay.to_source() ? Side::source : Side::destination)) throw never_met();
  return relay.to_source() ? m.source(relay.id())->relayed(relay) : m.destination(relay.id())->relayed(relay);
}

// Who has no migration's id, for its journal is lost, names the workload: a node has one of it that is armed.
api::MigrationId armed(Context& context, const std::string& workload) {
  for (const Record& r : context.records.all()) {
    if (r.key.side != Side::source || r.workload != workload || r.source() != SourcePhase::armed) continue;
    api::MigrationId id;
    id.set_migration(r.key.migration);
    id.set_epoch(r.key.epoch);
    return id;
  }
  throw Error(Errc::not_found,
              fmt::format("no migration of '{}' from node '{}' is undecided", workload, context.options.node),
              "`godwit ps` tells where the workload is, and in what state");
}

awaitable<api::Envelope> resolve(Context& context, Migrations& m, api::Resolve request) {
  if (!request.source_is_off()) {
    if (request.id().migration().empty()) *request.mutable_id() = armed(context, request.workload());
    return m.source(request.id())->resolve(request);
  }
  if (request.id().migration().empty())  // what is prepared here need not be the last of it
    fail(Errc::invalid_argument, "a destination is asked by the id of its migration");
  if (!m.is_known(request.id(), Side::destination))
    fail(Errc::not_found, "node '{}' knows no migration {} to here", context.options.node, request.id().migration());
  return m.destination(request.id())->resolve(request);
}

}  // namespace

// Not a coroutine: the work starts at once and holds what it needs.
awaitable<api::Envelope> answer_coordinator(Context& context, Migrations& m, api::Envelope request) {
  switch (request.body_case()) {
    case api::Envelope::kListWorkloads: return value(list(context));
    case api::Envelope::kRunWorkload: return run(context, request.run_workload());
    case api::Envelope::kKillWorkload: return value(kill(context, request.kill_workload()));

    case api::Envelope::kSurvey:
      if (request.survey().dry_run()) return preview_source(context, request.survey());
      return m.source(request.survey().id())->survey(request.survey());
    case api::Envelope::kConnect: return m.source(request.connect().id())->connect(request.connect());
    case api::Envelope::kRound: return m.source(request.round().id())->round(request.round());
    case api::Envelope::kFreeze: return m.source(request.freeze().id())->freeze(request.freeze());
    case api::Envelope::kThrottle: return m.source(request.throttle().id())->throttle(request.throttle());
    case api::Envelope::kSetRate:
      if (request.set_rate().id().migration().empty()) return value(set_node_rate(context, request.set_rate()));
      return value(m.source(request.set_rate().id())->set_rate(request.set_rate()));
    case api::Envelope::kArm: return m.source(request.arm().id())->arm(request.arm());
    case api::Envelope::kAbort: return m.source(request.abort().id())->abort(request.abort());
    case api::Envelope::kKillSource: return m.source(request.kill_source().id())->kill();
    case api::Envelope::kResolve: return resolve(context, m, request.resolve());
    case api::Envelope::kQuerySource: return value(m.source_state(request.query_source().id()));

    case api::Envelope::kCheck: return value(preview_destination(context, request.check()));
    case api::Envelope::kPrepare: return m.destination(request.prepare().id())->prepare(request.prepare());
    case api::Envelope::kFinish: return m.destination(request.finish().id())->finish(request.finish());
    case api::Envelope::kCommit: return m.destination(request.commit().id())->commit(request.commit());
    case api::Envelope::kDiscard: return m.destination(request.discard().id())->discard(request.discard());
    case api::Envelope::kQuery: return value(m.destination_state(request.query().id()));
    case api::Envelope::kRelay: return relayed(m, request.relay());
    default: fail(Errc::unsupported, "an agent does not answer this to a coordinator");
  }
}

awaitable<void> serve_peer(Context& context, Migrations& migrations, net::Connection connection) {
  net::require(connection.peer(), "agent");
  const auto peer = std::make_shared<Peer>(context, migrations, connection.peer(), std::weak_ptr<net::Channel>());
  const auto ended = std::make_shared<net::Signal>(context.executor);
  const auto open = std::make_shared<bool>(true);
  net::Channel::Handlers handlers{
      .request = [peer](api::Envelope request) { return answer_peer(peer, std::move(request)); },
      .notice = [peer](api::Envelope notice) { return note_peer(peer, std::move(notice)); },
      .closed =
          [open, ended](Error why) {
            if (why.errc() != Errc::cancelled && why.errc() != Errc::peer_lost)
              log::warn("peer.cut_off", {{"code", name(why.errc())}, {"message", why.message()}});
            *open = false;
            ended->notify();
          }};
  const auto channel = net::Channel::start(std::move(connection), std::move(handlers));
  peer->channel = channel;
  while (*open) co_await ended->wait();
  channel->close();
}

}  // namespace godwit::service
