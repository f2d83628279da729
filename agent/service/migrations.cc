#include "agent/service/migrations.h"

#include "agent/workload/cpu_limit.h"
#include "common/base/log.h"

#include <algorithm>
#include <filesystem>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t most_kept = 256;  // that are over, to answer repeated requests from memory
constexpr auto leftovers_limit = 30s;

net::awaitable<void> abort_for_stop(std::shared_ptr<SourceMigration> migration) {
  api::Abort request;
  request.set_reason("the agent is being stopped");
  co_await migration->abort(std::move(request));
}

}  // namespace

void check_id(const api::MigrationId& id) {
  const auto fine = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_'; };
  if (id.migration().empty() || id.migration().size() > 48 || !std::ranges::all_of(id.migration(), fine) ||
      id.epoch() == 0) {
    fail(Errc::invalid_argument, "'{}' epoch {} is no id of a migration", id.migration(), id.epoch());
  }
}

template <class Migration>
std::shared_ptr<Migration> Migrations::get(std::map<Key, std::shared_ptr<Migration>>& all, const Key& key) {
  auto& migration = all[key];
  if (migration) return migration;
  auto made = migration = std::make_shared<Migration>(context_, key);
  for (auto it = all.begin(); all.size() > most_kept && it != all.end();) {
    it = it->second->over() && it->first != key ? all.erase(it) : std::next(it);
  }
  return made;
}

std::shared_ptr<SourceMigration> Migrations::source(const api::MigrationId& id) {
  check_id(id);
  // A destination that has seen a newer epoch has it asked for again with a higher one: nobody ends the survey before.
  const auto first = sources_.lower_bound({.migration = id.migration(), .epoch = 0, .side = Side::source});
  for (auto it = first; it != sources_.end() && it->first < key_of(id, Side::source); ++it) it->second->pass_over();
  return get(sources_, key_of(id, Side::source));
}

std::shared_ptr<DestinationMigration> Migrations::destination(const api::MigrationId& id) {
  check_id(id);
  return get(destinations_, key_of(id, Side::destination));
}

bool Migrations::is_known(const api::MigrationId& id, Side side) const {
  check_id(id);
  const Key key = key_of(id, side);
  return (side == Side::source ? sources_.contains(key) : destinations_.contains(key)) || context_.records.find(key);
}

std::string Migrations::source_node(const api::MigrationId& id) const {
  check_id(id);
  const Key key = key_of(id, Side::destination);
  if (const auto found = destinations_.find(key); found != destinations_.end()) return found->second->source_node();
  const Record* r = context_.records.find(key);
  return r ? r->peer_node : "";
}

api::Envelope Migrations::source_state(const api::MigrationId& id) {
  const Key key = key_of(id, Side::source);
  if (const auto found = sources_.find(key); found != sources_.end()) return found->second->state();
  api::Envelope answer;
  *answer.mutable_source_state() = service::source_state(context_, key, 0);
  return answer;
}

api::Envelope Migrations::destination_state(const api::MigrationId& id) {
  api::Envelope answer;
  *answer.mutable_destination_state() = service::destination_state(context_, key_of(id, Side::destination));
  return answer;
}

void Migrations::end_leftovers() {
  workload::Cgroup::destroy(context_.cgroup("jobs"), leftovers_limit);
  for (const auto& note : std::filesystem::directory_iterator(context_.limits()))
    workload::CpuLimit::lift_noted(note.path());
  end_homeless(context_);
}

net::awaitable<void> Migrations::recover() {
  for (const Record& r : context_.records.all()) {
    api::MigrationId id;
    fill(&id, r.key);
    try {
      if (r.key.side == Side::source) {
        const auto migration = source(id);
        co_await migration->recover();
      } else {
        const auto migration = destination(id);
        co_await migration->recover();
      }
    } catch (const Error& e) {
      log::error("agent.recover", {{"migration", to_string(r.key)}, {"message", e.message()}});
    }
  }
}

net::awaitable<void> Migrations::stop(Clock::duration limit) {
  const auto deadline = Clock::now() + limit;
  for (const auto& [key, migration] : sources_) {
    if (!migration->over()) net::spawn(context_.executor, "agent.stop", abort_for_stop(migration));
  }
  const auto undecided = [&](const auto& entry) {
    const Record* r = context_.records.find(entry.first);
    return r && (r->source() == SourcePhase::none || r->source() == SourcePhase::frozen ||
                 r->source() == SourcePhase::aborted);
  };
  while (std::ranges::any_of(sources_, undecided) && Clock::now() < deadline) co_await net::sleep_for(10ms);
  for (const auto& [key, migration] : sources_) migration->stop();
  for (const auto& [key, migration] : destinations_) migration->stop();
}

void Migrations::forget_all() {
  for (const auto& [key, migration] : sources_) migration->stop();
  for (const auto& [key, migration] : destinations_) migration->stop();
  for (const auto& [key, migration] : sources_) migration->drop();
  for (const auto& [key, migration] : destinations_) migration->drop();
  sources_.clear();
  destinations_.clear();
}

}  // namespace godwit::service
