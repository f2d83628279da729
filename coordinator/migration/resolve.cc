// What an operator decides, and what an operator has to be told. The source judges what speaks against it: it has the
// record, and the coordinator only adds what it knows of the destination.
#include "common/base/log.h"
#include "coordinator/migration/driver.h"

#include <cctype>

namespace godwit::coordinator {
namespace {

// The source dials a node that is off until it gives up.
constexpr Clock::duration resolve_limit = std::chrono::seconds(30);
constexpr std::size_t longest_sentence = 1000;

std::string word_for(api::SourcePhase phase) {
  std::string word = api::SourcePhase_Name(phase);
  word.erase(0, word.find('_') + 1);
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return word;
}

bool may_be_resolved(Phase phase) { return phase == Phase::asking || phase == Phase::undecided; }

}  // namespace

net::awaitable<void> Driver::resolve(std::string id, Statement statement, std::string by) {
  const std::optional<Migration> m = store_.migration(id);
  if (!m) throw Error(Errc::not_found, fmt::format("no migration '{}'", id), "`godwit history` lists them");
  if (terminal(m->phase))
    throw Error(Errc::not_found, fmt::format("migration {} is not under way: it is {}", id, name(m->phase)),
                fmt::format("`godwit history {}` tells how it ended", id));
  if (!may_be_resolved(m->phase))
    throw Error(Errc::busy, fmt::format("migration {} is {}: its outcome is not in doubt", id, name(m->phase)),
                "`godwit watch` follows it");
  api::Envelope request;
  api::Resolve& resolve = *request.mutable_resolve();
  resolve.mutable_id()->set_migration(m->id);
  resolve.mutable_id()->set_epoch(m->epoch);
  resolve.set_by(by);
  resolve.set_destination_is_off(statement == Statement::destination_is_off);
  resolve.set_go_on(statement == Statement::go_on);
  const auto there = registry_.nodes().find(m->spec.destination);
  if (there != registry_.nodes().end() && there->second.up) {
    resolve.set_destination_boot(there->second.info.boot_id());
    resolve.set_destination_store(there->second.info.store_uuid());
  }
  const std::shared_ptr<net::Channel> source = registry_.channel(m->spec.source);
  const api::Envelope reply = co_await source->ask(std::move(request), resolve_limit);
  const api::SourcePhase phase = reply.source_state().phase();
  const bool let_go = phase == api::SOURCE_ABORTED || phase == api::SOURCE_THAWED;
  log::warn("migration.resolve", {{"migration", id}, {"by", by}, {"source", word_for(phase)}});
  const std::string what = statement == Statement::go_on ? "lost" : "off";
  if (let_go) store_.append(id, "resolve", {{"by", by}, {what, m->spec.destination}, {"source", word_for(phase)}});
  const std::optional<Migration> now = store_.migration(id);
  if (now && now->phase == Phase::undecided && !runs_.contains(id)) launch(*now, limits_.again);
  if (!let_go)
    throw Error(Errc::refused, fmt::format("the source has decided meanwhile: it is {}", word_for(phase)),
                fmt::format("`godwit history {}` tells how it ended", id));
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
