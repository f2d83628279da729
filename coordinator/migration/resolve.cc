// What an operator decides, and what an operator has to be told. The node that is to go on judges what speaks against
// it: it has the record, and the coordinator only adds who is registered.
#include "common/base/log.h"
#include "coordinator/migration/driver.h"

#include <cctype>
#include <string>
#include <string_view>

namespace godwit::coordinator {
namespace {

constexpr std::size_t longest_sentence = 1000;

std::string word_for(const std::string& name) {
  std::string word = name.substr(name.find('_') + 1);
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return word;
}

bool may_be_resolved(Phase phase) { return phase == Phase::asking || phase == Phase::undecided; }

// Whom the statement is made to, and what that side answers.
struct Side {
  std::string_view name;
  std::string phase;
  bool runs = false;  // its copy may run now
};

Side side_of(const api::Envelope& reply) {
  if (reply.has_destination_state()) {
    const api::DestinationPhase phase = reply.destination_state().phase();
    return {.name = "destination",
            .phase = word_for(api::DestinationPhase_Name(phase)),
            .runs = phase == api::DESTINATION_RESUMED || phase == api::DESTINATION_COMMITTED};
  }
  const api::SourcePhase phase = reply.source_state().phase();
  return {.name = "source",
          .phase = word_for(api::SourcePhase_Name(phase)),
          .runs = phase == api::SOURCE_ABORTED || phase == api::SOURCE_THAWED};
}

// A journal that was put back from a backup may not know that the workload has moved on from the source. A node that
// is down for now counts as it was.
void check_nowhere_else(const Registry& registry, const MigrationSpec& spec) {
  for (const auto& [name, node] : registry.nodes())
    for (const auto& [id, w] : node.workloads)
      if (name != spec.source && name != spec.destination && w.name() == spec.workload && w.state() != "exited")
        throw Error(Errc::refused, fmt::format("'{}' is on node '{}' as well: {}", spec.workload, name, w.state()),
                    "what the destination has prepared is not the last of it");
}

void check_runs(const Side& side) {
  if (!side.runs)
    throw Error(Errc::refused, fmt::format("the {} has decided meanwhile: it is {}", side.name, side.phase),
                "`godwit history` tells how it ended, `godwit ps` where the workload is");
}

// A node that does not answer, in time or any more, may go on with it all the same: the statement was made, and counts.
bool may_have_heard(const Error& e) { return e.errc() == Errc::timed_out || e.errc() == Errc::peer_lost; }

net::awaitable<Side> answer_of(std::shared_ptr<net::Channel> asked, std::string node, api::Envelope request,
                               Clock::duration limit) {
  try {
    const api::Envelope answer = co_await asked->ask(std::move(request), limit);
    co_return side_of(answer);
  } catch (const Error& e) {
    if (!may_have_heard(e)) throw;
    throw Error(
        e.errc(), fmt::format("node '{}' has not let it go on yet: {}", node, e.message()),
        "it may have been told, and let the workload go on still: `godwit ps` tells; the same can be said again");
  }
}

}  // namespace

api::Envelope Driver::statement_of(Statement statement, const std::string& by) const {
  api::Envelope request;
  api::Resolve& resolve = *request.mutable_resolve();
  resolve.set_by(by);
  resolve.set_destination_is_off(statement == Statement::destination_is_off);
  resolve.set_go_on(statement == Statement::go_on);
  resolve.set_source_is_off(statement == Statement::source_is_off);
  for (const auto& [name, node] : registry_.nodes()) {
    if (!node.up) continue;
    api::Registration& r = *resolve.add_registered();
    r.set_node(name);
    r.set_boot_id(node.info.boot_id());
    r.set_store_uuid(node.info.store_uuid());
  }
  return request;
}

net::awaitable<void> Driver::resolve(std::string id, Statement statement, std::string by) {
  const std::optional<Migration> m = store_.migration(id);
  if (!m) throw Error(Errc::not_found, fmt::format("no migration '{}'", id), "`godwit history` lists them");
  if (terminal(m->phase))
    throw Error(Errc::not_found, fmt::format("migration {} is not under way: it is {}", id, name(m->phase)),
                fmt::format("`godwit history {}` tells how it ended; where a node still holds '{}', name both: godwit "
                            "resolve {} --at NODE",
                            id, m->spec.workload, m->spec.workload));
  if (!may_be_resolved(m->phase))
    throw Error(Errc::busy, fmt::format("migration {} is {}: its outcome is not in doubt", id, name(m->phase)),
                "`godwit watch` follows it");
  const bool to_destination = statement == Statement::source_is_off;
  if (to_destination) check_nowhere_else(registry_, m->spec);
  api::Envelope request = statement_of(statement, by);
  request.mutable_resolve()->mutable_id()->set_migration(m->id);
  request.mutable_resolve()->mutable_id()->set_epoch(m->epoch);
  const std::string& told = to_destination ? m->spec.destination : m->spec.source;
  const std::string other = to_destination ? m->spec.source : m->spec.destination;
  const std::string what = statement == Statement::go_on ? "lost" : "off";
  const auto look_again = [&] {
    const std::optional<Migration> now = store_.migration(id);
    if (now && now->phase == Phase::undecided && !runs_.contains(id)) launch(*now, limits_.again);
  };
  const std::shared_ptr<net::Channel> asked = registry_.channel(told);
  std::optional<Side> side;
  try {
    side = co_await answer_of(asked, told, std::move(request), limits_.resolve);
  } catch (const Error& e) {
    if (!may_have_heard(e)) throw;
    store_.append(id, "resolve", {{"by", by}, {what, other}, {"unanswered", told}});
    look_again();
    throw;
  }
  log::warn("migration.resolve", {{"migration", id}, {"by", by}, {"side", side->name}, {"phase", side->phase}});
  if (side->runs) store_.append(id, "resolve", {{"by", by}, {what, other}, {std::string(side->name), side->phase}});
  look_again();
  check_runs(*side);
}

net::awaitable<void> Driver::resolve_at(std::string node, std::string workload, Statement statement, std::string by) {
  if (const std::string id = active_for(workload); !id.empty())
    throw Error(Errc::busy, fmt::format("the journal knows of migration {} of '{}'", id, workload),
                fmt::format("resolve that one: godwit resolve {}", id));
  api::Envelope request = statement_of(statement, by);
  request.mutable_resolve()->set_workload(workload);
  const Side side = co_await answer_of(registry_.channel(node), node, std::move(request), limits_.resolve);
  log::warn("workload.resolve",
            {{"workload", workload}, {"node", node}, {"by", by}, {"side", side.name}, {"phase", side.phase}});
  check_runs(side);
}

void Driver::alarm(const std::string& node, const api::Alarm& alarm) {
  std::optional<Migration> m = store_.migration(alarm.id().migration());
  if (!m || (node != m->spec.source && node != m->spec.destination)) return;
  const Error what = net::from_failure(alarm.failure());
  Reason reason{what.errc(), what.message().substr(0, longest_sentence), what.hint().substr(0, longest_sentence)};
  if (m->reason && m->reason->message == reason.message) return;  // it is said again until it is over
  log::error("migration.alarm", {{"migration", m->id}, {"node", node}, {"message", reason.message}});
  store_.append(m->id, "alarm",
                {{"code", godwit::name(reason.code)}, {"message", reason.message}, {"hint", reason.hint}});
  if (!settled(m->phase)) return;
  m->reason = std::move(reason);
  store_.finish(*m);
}

}  // namespace godwit::coordinator
