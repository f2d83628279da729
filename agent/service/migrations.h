// The migrations that this node takes part in, by (migration, epoch) and side. On the executor's thread.
#pragma once

#include "agent/service/destination_migration.h"
#include "agent/service/source_migration.h"

#include <map>
#include <memory>

namespace godwit::service {

// Ids become parts of paths and records. Errc::invalid_argument.
void check_id(const api::MigrationId& id);

class Migrations {
 public:
  explicit Migrations(Context& context) : context_(context) {}

  // Made when there is none: an unknown id is answered like one of which nothing has been done.
  std::shared_ptr<SourceMigration> source(const api::MigrationId& id);
  std::shared_ptr<DestinationMigration> destination(const api::MigrationId& id);

  // What only asks, or says what matters to one that has begun, makes none.
  bool is_known(const api::MigrationId& id, Side side) const;
  std::string source_node(const api::MigrationId& id) const;  // of one to here; empty: unknown
  api::Envelope source_state(const api::MigrationId& id);
  api::Envelope destination_state(const api::MigrationId& id);
  std::size_t kept() const { return sources_.size() + destinations_.size(); }

  // After the agent's restart: first whatever programs of its former life are left are ended, then every record is
  // gone through.
  void end_leftovers();
  net::awaitable<void> recover();

  // Lets go of what is not armed, within `limit`, and stops asking for the rest.
  net::awaitable<void> stop(Clock::duration limit);
  void forget_all();  // drops them as they are, as a crash would

 private:
  template <class Migration>
  std::shared_ptr<Migration> get(std::map<Key, std::shared_ptr<Migration>>& all, const Key& key);

  Context& context_;
  std::map<Key, std::shared_ptr<SourceMigration>> sources_;
  std::map<Key, std::shared_ptr<DestinationMigration>> destinations_;
};

}  // namespace godwit::service
