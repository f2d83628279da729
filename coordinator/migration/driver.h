// All migrations: who may start, which are under way, what the journal says is not over. One thread.
#pragma once

#include "coordinator/migration/run.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::coordinator {

class Driver {
 public:
  Driver(net::Executor executor, Store& store, Registry& registry, Limits limits = {});

  // Checks what can be known here, journals the migration and sets off. Returns its id. Errors: not_found, target_gone,
  // invalid_argument, already_exists, busy, refused, peer_lost, cancelled. With an evacuation's number it is one of its
  // moves.
  std::string start(MigrationSpec spec, std::int64_t evacuation = 0);

  // Everything that stands in the way of start() as far as it is known here; empty when nothing does. Fills in what
  // the request left out: the source, and the name of a workload that was given by PID.
  std::vector<Error> obstacles(MigrationSpec& spec) const;
  // What start() would let through and the policy then refuse at once.
  std::optional<Error> hopeless(const MigrationSpec& spec) const;
  std::uint64_t coming_epoch(const MigrationSpec& spec) const;  // that start() would give; gives none
  bool stopping() const { return stopping_; }
  const Limits& limits() const { return limits_; }

  // Rolls a migration back that is not armed yet; `by` as in Run. Errors: not_found when it is not under way, busy when
  // it is too late.
  void cancel(const std::string& id, const std::string& by);

  // On an operator's word an armed source lets its copy go, or a prepared destination commits
  // (docs/commit-protocol.md). Errors: not_found, busy while the outcome may still be told, refused where the workload
  // is on a third node, peer_lost, and what the one who is to go on says against it.
  net::awaitable<void> resolve(std::string id, Statement statement, std::string by);
  // The same, to whatever source that node has of the workload that is armed: for when the journal does not know of it,
  // else busy.
  net::awaitable<void> resolve_at(std::string node, std::string workload, Statement statement, std::string by);

  // An agent has found what no program may put right: it becomes the reason that the report gives.
  void alarm(const std::string& node, const api::Alarm& alarm);

  // Bytes per second for the pages that are still to be sent, 0: no limit. Errors: not_found, busy, what the source
  // says.
  net::awaitable<void> set_rate(std::string id, std::uint64_t bytes_per_second, std::string by);

  // What this node may send was changed for all that leave it.
  void node_rate_changed(const std::string& node);

  // Drives on what an earlier life of the coordinator left unfinished. Once, at the start.
  void resume();

  // A node has registered: outcomes that were unknown may be told now.
  void node_returned(const std::string& node);

  void progress(const std::string& node, const api::Progress& progress);

  std::shared_ptr<Run> find(const std::string& id) const;     // null when it is not under way
  std::vector<std::string> under_way() const;                 // ids, oldest first
  std::string active_for(const std::string& workload) const;  // id of the unfinished migration; empty: none
  std::string active_for(std::int32_t pid, const std::string& source) const;

  // No new ones; those that have not frozen yet roll back; returns when all have settled, or after `grace`.
  net::awaitable<void> stop(Clock::duration grace);

 private:
  [[noreturn]] void fail_not_under_way(const std::string& id, std::string_view unknown) const;
  void launch(Migration migration, Clock::duration again);
  void shares_changed(const std::string& node, const std::string& but, Run::Share share);
  net::awaitable<void> ask_again(std::string id, Clock::duration pause);
  api::Envelope statement_of(Statement statement, const std::string& by) const;
  void name_by_pid(MigrationSpec& spec) const;
  std::uint64_t epoch_of_copy(const MigrationSpec& spec) const;
  Overhead expected_overhead(const MigrationSpec& spec) const;
  std::vector<SeenPause> pauses_of(const std::string& workload, const MigrationSpec& spec) const;

  net::Executor executor_;
  Store& store_;
  Registry& registry_;
  Limits limits_;
  bool stopping_ = false;
  std::map<std::string, std::shared_ptr<Run>> runs_;
  std::uint64_t launched_ = 0;
};

}  // namespace godwit::coordinator
