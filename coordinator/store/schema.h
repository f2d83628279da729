// The tables. Units are in the names; enums are stored by name. `PRAGMA user_version` counts the changes that a journal
// has: each is made once, in its order, and never edited afterwards.
#pragma once

#include <array>

namespace godwit::coordinator {

inline constexpr std::array schema_changes{
    R"sql(
CREATE TABLE migrations (
  id TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL,
  workload TEXT NOT NULL,
  source TEXT NOT NULL,
  destination TEXT NOT NULL,
  spec TEXT NOT NULL,                    -- JSON, as asked for
  phase TEXT NOT NULL,
  outcome TEXT,
  reason_code TEXT,
  reason TEXT,
  hint TEXT,
  created_unix_ms INTEGER NOT NULL,
  finished_unix_ms INTEGER NOT NULL DEFAULT 0,
  total_s REAL NOT NULL DEFAULT 0,
  predicted_downtime_ns INTEGER NOT NULL DEFAULT 0,
  downtime_ns INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX migrations_by_time ON migrations (created_unix_ms);

CREATE TABLE rounds (
  migration TEXT NOT NULL REFERENCES migrations (id),
  number INTEGER NOT NULL,
  pages INTEGER NOT NULL,
  zero_pages INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  seconds REAL NOT NULL,
  dirty_bytes_after INTEGER NOT NULL,
  final INTEGER NOT NULL,
  PRIMARY KEY (migration, number)
) STRICT;

CREATE TABLE steps (
  migration TEXT NOT NULL REFERENCES migrations (id),
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  nanoseconds INTEGER NOT NULL,
  PRIMARY KEY (migration, position)
) STRICT;

CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  migration TEXT NOT NULL REFERENCES migrations (id),
  at_unix_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_migration ON events (migration, sequence);
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events BEGIN SELECT raise(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events BEGIN SELECT raise(ABORT, 'events are append-only'); END;

CREATE TABLE epochs (
  workload TEXT PRIMARY KEY,
  highest INTEGER NOT NULL
) STRICT;

CREATE TABLE workloads (
  workload TEXT NOT NULL,
  node TEXT NOT NULL,
  copy TEXT NOT NULL,
  state TEXT NOT NULL,
  seen_unix_ms INTEGER NOT NULL,
  PRIMARY KEY (workload, node)
) STRICT;
)sql",
    R"sql(
CREATE TABLE cordons (
  node TEXT PRIMARY KEY,
  by TEXT NOT NULL,                      -- the operator's name
  at_unix_ms INTEGER NOT NULL
) STRICT;
)sql",
    R"sql(
CREATE TABLE evacuations (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  node TEXT NOT NULL,
  by TEXT NOT NULL,                      -- the operator's name
  request TEXT NOT NULL,                 -- JSON
  created_unix_ms INTEGER NOT NULL,
  cancelled_by TEXT,
  report TEXT                            -- JSON, of one that has ended
) STRICT;
CREATE INDEX evacuations_by_node ON evacuations (node, number);

CREATE TABLE moves (
  evacuation INTEGER NOT NULL REFERENCES evacuations (number),
  migration TEXT NOT NULL REFERENCES migrations (id),
  own INTEGER NOT NULL,                  -- 0: it was under way already, and is waited for
  PRIMARY KEY (evacuation, migration)
) STRICT;
)sql",
};
inline constexpr int schema_version = static_cast<int>(schema_changes.size());

}  // namespace godwit::coordinator
