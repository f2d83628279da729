// The coordinator's journal: SQLite, in WAL mode, one connection, one thread. Every step is written here before it is
// acted on. It matters for progress and for people, never for safety: losing it loses no workload.
//
// Every write survives a crash of this process. Ids, epochs, outcomes, cordons, evacuations and what is appended
// durably are on disk (fsync) when the call returns; the steps between follow with the next of these, so that a
// workload does not dirty memory while the journal is synced. While a Pause lives a workload stands still, and nothing
// is synced but what is appended durably; the end of the last Pause makes up for it.
//
// One process at a time: two would drive the same migrations side by side.
//
// Failures are Errors: internal (SQLite's own words), not_found, already_exists, busy (another process has it).
#pragma once

#include "common/base/fd.h"
#include "coordinator/migration/migration.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace SQLite {
class Database;
}

namespace godwit::coordinator {

// One line of a migration's story, append-only. `sequence` grows over all migrations.
struct StoredEvent {
  std::int64_t sequence = 0;
  std::string migration;
  std::int64_t at_unix_ms = 0;
  std::string kind;  // phase, decision, round, notice, outcome
  nlohmann::json body;
};

// Where a workload was last seen; outlives the connection of its node.
struct Placement {
  std::string workload;
  std::string node;
  std::string copy;   // "<migration or run id>.<epoch>"
  std::string state;  // as the agent said
};

// A node that takes no new workloads, until an operator says otherwise.
struct Cordon {
  std::string node;
  std::string by;  // the operator's name; may be empty
  std::int64_t at_unix_ms = 0;
};

// A node that is being emptied, or has been.
struct StoredEvacuation {
  std::int64_t number = 0;
  std::string node;
  std::string by;
  nlohmann::json request;
  std::int64_t created_unix_ms = 0;
  std::optional<std::string> cancelled_by;
  std::optional<nlohmann::json> report;  // of one that has ended
};

// A migration that takes a workload off that node.
struct StoredMove {
  std::string migration;
  bool own = true;  // begun by the evacuation; else it was under way already
};

class Store {
 public:
  explicit Store(const std::string& path);  // ":memory:" for tests
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // With an evacuation's number it becomes one of its moves at the same moment.
  void add(const Migration& migration, std::int64_t evacuation = 0);
  void enter(const std::string& id, Phase phase);
  void name_workload(const std::string& id, const std::string& workload);  // known only after a survey by PID
  void set_epoch(const std::string& id, std::uint64_t epoch);
  void add_round(const std::string& id, const RoundRecord& round);
  void set_prediction(const std::string& id, std::int64_t predicted_downtime_ns);
  // Outcome, reason, times and steps of a migration that has settled.
  void finish(const Migration& migration);

  std::optional<Migration> migration(const std::string& id) const;
  // In the order in which they began, whatever the clock said then.
  std::vector<Migration> migrations(unsigned limit, const std::string& workload = {}) const;  // newest first
  std::vector<std::string> unfinished() const;  // ids, oldest first: not in a terminal phase, or without an outcome

  StoredEvent append(const std::string& migration, const std::string& kind, nlohmann::json body);
  StoredEvent append_durably(const std::string& migration, const std::string& kind, nlohmann::json body);
  std::vector<StoredEvent> events(const std::string& migration, std::int64_t after_sequence) const;

  // Greater than every epoch given out for this workload and than `at_least`.
  std::uint64_t next_epoch(const std::string& workload, std::uint64_t at_least);
  std::uint64_t highest_epoch(const std::string& workload) const;  // given out so far; 0: none

  void cordon(const std::string& node, const std::string& by);  // the first one counts
  void uncordon(const std::string& node);
  std::vector<Cordon> cordons() const;

  // Cordons the node at the same moment. Returns the number.
  std::int64_t add_evacuation(const std::string& node, const std::string& by, const nlohmann::json& request);
  void cancel_evacuation(std::int64_t number, const std::string& by);  // the first one counts; also in a Pause
  void finish_evacuation(std::int64_t number, const nlohmann::json& report);
  std::vector<StoredEvacuation> evacuations() const;  // the last one of each node
  void adopt(std::int64_t evacuation, const std::string& migration);
  std::vector<StoredMove> moves(std::int64_t evacuation) const;  // in the order in which they were added

  void place(const Placement& placement);
  void forget(const std::string& workload, const std::string& node);
  std::vector<Placement> placements() const;

  class Pause {
   public:
    explicit Pause(Store& store);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Store& store_;
  };
  bool pausing() const { return pauses_ > 0; }
  void checkpoint() noexcept;  // folds the log into the database; does nothing while a Pause lives

 private:
  class Durable;
  Migration read(const std::string& id) const;

  UniqueFd lock_;
  std::unique_ptr<SQLite::Database> db_;
  int pauses_ = 0;
};

}  // namespace godwit::coordinator
