#include "coordinator/store/store.h"

#include "common/base/lock_file.h"
#include "common/base/log.h"
#include "common/base/wall_clock.h"
#include "coordinator/migration/json.h"
#include "coordinator/store/schema.h"

#include <SQLiteCpp/SQLiteCpp.h>

namespace godwit::coordinator {
namespace {

// Only this process writes; somebody looking with sqlite3 may hold a lock for a moment.
constexpr int busy_timeout_ms = 2000;

// SQLite's words as our Error, with what was being done, and those for a row that is damaged.
template <class F>
auto doing(const char* what, F&& body) {
  try {
    return body();
  } catch (const SQLite::Exception& e) {
    fail(Errc::internal, "journal: {}: {}", what, e.what());
  } catch (const nlohmann::json::exception& e) {
    fail(Errc::internal, "journal: {}: {}", what, e.what());
  }
}

void bind_all(SQLite::Statement& statement, const auto&... values) {
  int position = 0;
  (statement.bind(++position, values), ...);
}

template <class... Args>
int run(SQLite::Database& db, const char* what, const char* sql, const Args&... args) {
  return doing(what, [&] {
    SQLite::Statement statement(db, sql);
    bind_all(statement, args...);
    return statement.exec();
  });
}

UniqueFd lock_of(const std::string& path) {
  if (path == ":memory:") return {};
  UniqueFd lock = take_lock(path + ".lock");
  if (!lock)
    throw Error(Errc::busy, fmt::format("another coordinator has the journal {}", path),
                "stop that one first, or give this one a --state of its own");
  return lock;
}

std::int64_t signed_of(std::uint64_t value) { return static_cast<std::int64_t>(value); }
std::uint64_t unsigned_of(const SQLite::Column& column) { return static_cast<std::uint64_t>(column.getInt64()); }

// Text from agents may hold any bytes (paths do); the journal must take it all the same.
std::string text_of(const nlohmann::json& body) {
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Store::Store(const std::string& path) : lock_(lock_of(path)) {
  doing("open", [&] {
    db_ = std::make_unique<SQLite::Database>(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, busy_timeout_ms);
    db_->exec("PRAGMA journal_mode = WAL");
    // In WAL mode NORMAL syncs at checkpoints only; a crash of the machine costs the tail of the log, never its order.
    db_->exec("PRAGMA synchronous = NORMAL");
    db_->exec("PRAGMA foreign_keys = ON");
    // A checkpoint fsyncs; left to itself it would run inside somebody's pause.
    db_->exec("PRAGMA wal_autocheckpoint = 0");
    const int version = db_->execAndGet("PRAGMA user_version").getInt();
    if (version > schema_version)
      fail(Errc::invalid_argument, "{} was written by a newer godwit (schema {}, this one knows {})", path, version,
           schema_version);
    if (version == schema_version) return;
    SQLite::Transaction change(*db_);
    for (int next = version; next < schema_version; next++) db_->exec(schema_changes[static_cast<std::size_t>(next)]);
    db_->exec(fmt::format("PRAGMA user_version = {}", schema_version));
    change.commit();
  });
}

Store::~Store() { checkpoint(); }

// Commits made in this scope are synced, and with them all that were made before.
class Store::Durable {
 public:
  explicit Durable(Store& store, bool in_a_pause_too = false) : store_(store), on_(in_a_pause_too || !store.pausing()) {
    if (on_) doing("sync", [&] { store_.db_->exec("PRAGMA synchronous = FULL"); });
  }
  ~Durable() {
    if (on_ && store_.db_->tryExec("PRAGMA synchronous = NORMAL") != SQLite::OK) log::error("journal.sync_mode_stays");
  }
  Durable(const Durable&) = delete;
  Durable& operator=(const Durable&) = delete;

 private:
  Store& store_;
  bool on_;
};

void Store::add(const Migration& m, std::int64_t evacuation) {
  const Durable durable(*this);
  doing("add migration", [&] {
    SQLite::Statement exists(*db_, "SELECT 1 FROM migrations WHERE id = ?");
    exists.bind(1, m.id);
    if (exists.executeStep()) fail(Errc::already_exists, "migration {} exists", m.id);
  });
  doing("add migration", [&] {
    SQLite::Transaction change(*db_);
    run(*db_, "add migration",
        "INSERT INTO migrations (id, epoch, workload, source, destination, spec, phase, created_unix_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        m.id, signed_of(m.epoch), m.spec.workload, m.spec.source, m.spec.destination, to_json(m.spec).dump(),
        std::string(name(m.phase)), m.created_unix_ms);
    if (evacuation > 0) run(*db_, "add migration", "INSERT INTO moves VALUES (?, ?, 1)", evacuation, m.id);
    change.commit();
  });
}

void Store::enter(const std::string& id, Phase phase) {
  if (run(*db_, "enter phase", "UPDATE migrations SET phase = ? WHERE id = ?", std::string(name(phase)), id) != 1)
    fail(Errc::not_found, "no migration {}", id);
}

void Store::name_workload(const std::string& id, const std::string& workload) {
  run(*db_, "name workload", "UPDATE migrations SET workload = ? WHERE id = ?", workload, id);
}

void Store::set_epoch(const std::string& id, std::uint64_t epoch) {
  const Durable durable(*this);
  run(*db_, "set epoch", "UPDATE migrations SET epoch = ? WHERE id = ?", signed_of(epoch), id);
}

void Store::add_round(const std::string& id, const RoundRecord& r) {
  run(*db_, "add round", "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?)", id,
      static_cast<std::int64_t>(r.number), signed_of(r.pages), signed_of(r.zero_pages), signed_of(r.bytes), r.seconds,
      signed_of(r.dirty_bytes_after), r.final ? 1 : 0);
}

void Store::set_prediction(const std::string& id, std::int64_t predicted_downtime_ns) {
  run(*db_, "set prediction", "UPDATE migrations SET predicted_downtime_ns = ? WHERE id = ?", predicted_downtime_ns,
      id);
}

void Store::finish(const Migration& m) {
  const Durable durable(*this);
  doing("finish migration", [&] {
    SQLite::Transaction change(*db_);
    const std::string outcome(m.outcome ? name(*m.outcome) : "unknown");
    run(*db_, "finish migration",
        "UPDATE migrations SET phase = ?, outcome = ?, finished_unix_ms = ?, total_s = ?, downtime_ns = ? WHERE id = ?",
        std::string(name(m.phase)), outcome, m.finished_unix_ms, m.total_s, m.downtime_ns, m.id);
    if (m.reason)
      run(*db_, "finish migration", "UPDATE migrations SET reason_code = ?, reason = ?, hint = ? WHERE id = ?",
          std::string(name(m.reason->code)), m.reason->message, m.reason->hint, m.id);
    else
      run(*db_, "finish migration", "UPDATE migrations SET reason_code = NULL, reason = NULL, hint = NULL WHERE id = ?",
          m.id);
    run(*db_, "finish migration", "DELETE FROM steps WHERE migration = ?", m.id);
    int position = 0;
    for (const StepRecord& s : m.steps)
      run(*db_, "finish migration", "INSERT INTO steps VALUES (?, ?, ?, ?)", m.id, position++, s.name, s.nanoseconds);
    change.commit();
  });
}

Migration Store::read(const std::string& id) const {
  Migration m;
  SQLite::Statement row(*db_,
                        "SELECT epoch, workload, spec, phase, outcome, reason_code, reason, hint, created_unix_ms,"
                        " finished_unix_ms, total_s, predicted_downtime_ns, downtime_ns FROM migrations WHERE id = ?");
  row.bind(1, id);
  if (!row.executeStep()) fail(Errc::not_found, "no migration {}", id);
  m.id = id;
  m.epoch = unsigned_of(row.getColumn(0));
  m.spec = spec_from_json(nlohmann::json::parse(row.getColumn(2).getString()));
  m.spec.workload = row.getColumn(1).getString();
  m.phase = phase_from_name(row.getColumn(3).getString()).value_or(Phase::undecided);
  if (!row.getColumn(4).isNull()) m.outcome = outcome_from_name(row.getColumn(4).getString());
  if (!row.getColumn(5).isNull())
    m.reason = Reason{errc_from_name(row.getColumn(5).getString()), row.getColumn(6).getString(),
                      row.getColumn(7).getString()};
  m.created_unix_ms = row.getColumn(8).getInt64();
  m.finished_unix_ms = row.getColumn(9).getInt64();
  m.total_s = row.getColumn(10).getDouble();
  m.predicted_downtime_ns = row.getColumn(11).getInt64();
  m.downtime_ns = row.getColumn(12).getInt64();

  SQLite::Statement rounds(*db_,
                           "SELECT number, pages, zero_pages, bytes, seconds, dirty_bytes_after, final FROM rounds"
                           " WHERE migration = ? ORDER BY number");
  rounds.bind(1, id);
  while (rounds.executeStep())
    m.rounds.push_back({.number = rounds.getColumn(0).getUInt(),
                        .pages = unsigned_of(rounds.getColumn(1)),
                        .zero_pages = unsigned_of(rounds.getColumn(2)),
                        .bytes = unsigned_of(rounds.getColumn(3)),
                        .seconds = rounds.getColumn(4).getDouble(),
                        .dirty_bytes_after = unsigned_of(rounds.getColumn(5)),
                        .final = rounds.getColumn(6).getInt() != 0});
  SQLite::Statement notices(*db_, "SELECT body FROM events WHERE migration = ? AND kind = 'notice' ORDER BY sequence");
  notices.bind(1, id);
  while (notices.executeStep())
    m.notices.push_back(nlohmann::json::parse(notices.getColumn(0).getString()).value("text", ""));
  SQLite::Statement steps(*db_, "SELECT name, nanoseconds FROM steps WHERE migration = ? ORDER BY position");
  steps.bind(1, id);
  while (steps.executeStep()) m.steps.push_back({steps.getColumn(0).getString(), steps.getColumn(1).getInt64()});
  return m;
}

std::optional<Migration> Store::migration(const std::string& id) const {
  return doing("read migration", [&]() -> std::optional<Migration> {
    SQLite::Statement exists(*db_, "SELECT 1 FROM migrations WHERE id = ?");
    exists.bind(1, id);
    if (!exists.executeStep()) return std::nullopt;
    return read(id);
  });
}

std::vector<Migration> Store::migrations(unsigned limit, const std::string& workload) const {
  return doing("list migrations", [&] {
    SQLite::Statement ids(*db_,
                          "SELECT id FROM migrations WHERE ?1 = '' OR workload = ?1"
                          " ORDER BY rowid DESC LIMIT ?2");
    ids.bind(1, workload);
    ids.bind(2, static_cast<std::int64_t>(limit));
    std::vector<Migration> found;
    while (ids.executeStep()) found.push_back(read(ids.getColumn(0).getString()));
    return found;
  });
}

std::vector<std::string> Store::unfinished() const {
  return doing("list unfinished migrations", [&] {
    SQLite::Statement rows(*db_,
                           "SELECT id, phase FROM migrations WHERE phase NOT IN (?, ?) OR outcome IS NULL ORDER BY "
                           "rowid");
    bind_all(rows, std::string(name(Phase::done)), std::string(name(Phase::rolled_back)));
    std::vector<std::string> ids;
    while (rows.executeStep()) ids.push_back(rows.getColumn(0).getString());
    return ids;
  });
}

StoredEvent Store::append(const std::string& migration, const std::string& kind, nlohmann::json body) {
  StoredEvent event{.migration = migration, .at_unix_ms = unix_ms(), .kind = kind, .body = std::move(body)};
  run(*db_, "append event", "INSERT INTO events (migration, at_unix_ms, kind, body) VALUES (?, ?, ?, ?)", migration,
      event.at_unix_ms, kind, text_of(event.body));
  event.sequence = db_->getLastInsertRowid();
  return event;
}

StoredEvent Store::append_durably(const std::string& migration, const std::string& kind, nlohmann::json body) {
  const Durable durable(*this, true);
  return append(migration, kind, std::move(body));
}

std::vector<StoredEvent> Store::events(const std::string& migration, std::int64_t after_sequence) const {
  return doing("read events", [&] {
    SQLite::Statement rows(*db_,
                           "SELECT sequence, at_unix_ms, kind, body FROM events"
                           " WHERE migration = ? AND sequence > ? ORDER BY sequence");
    bind_all(rows, migration, after_sequence);
    std::vector<StoredEvent> found;
    while (rows.executeStep())
      found.push_back({rows.getColumn(0).getInt64(), migration, rows.getColumn(1).getInt64(),
                       rows.getColumn(2).getString(), nlohmann::json::parse(rows.getColumn(3).getString())});
    return found;
  });
}

std::uint64_t Store::next_epoch(const std::string& workload, std::uint64_t at_least) {
  const Durable durable(*this);
  return doing("next epoch", [&] {
    SQLite::Statement row(*db_,
                          "INSERT INTO epochs (workload, highest) VALUES (?1, ?2 + 1) ON CONFLICT (workload)"
                          " DO UPDATE SET highest = max(highest, ?2) + 1 RETURNING highest");
    row.bind(1, workload);
    row.bind(2, signed_of(at_least));
    row.executeStep();
    const std::uint64_t epoch = unsigned_of(row.getColumn(0));
    row.executeStep();  // to the end: only then is the statement committed
    return epoch;
  });
}

std::uint64_t Store::highest_epoch(const std::string& workload) const {
  return doing("read epoch", [&]() -> std::uint64_t {
    SQLite::Statement row(*db_, "SELECT highest FROM epochs WHERE workload = ?");
    row.bind(1, workload);
    return row.executeStep() ? unsigned_of(row.getColumn(0)) : 0;
  });
}

void Store::cordon(const std::string& node, const std::string& by) {
  const Durable durable(*this);
  run(*db_, "cordon node", "INSERT OR IGNORE INTO cordons VALUES (?, ?, ?)", node, by, unix_ms());
}

void Store::uncordon(const std::string& node) {
  const Durable durable(*this);
  run(*db_, "uncordon node", "DELETE FROM cordons WHERE node = ?", node);
}

std::vector<Cordon> Store::cordons() const {
  return doing("read cordons", [&] {
    SQLite::Statement rows(*db_, "SELECT node, by, at_unix_ms FROM cordons ORDER BY node");
    std::vector<Cordon> found;
    while (rows.executeStep())
      found.push_back({rows.getColumn(0).getString(), rows.getColumn(1).getString(), rows.getColumn(2).getInt64()});
    return found;
  });
}

std::int64_t Store::add_evacuation(const std::string& node, const std::string& by, const nlohmann::json& request) {
  const Durable durable(*this);
  return doing("add evacuation", [&] {
    SQLite::Transaction change(*db_);
    run(*db_, "add evacuation", "INSERT OR IGNORE INTO cordons VALUES (?, ?, ?)", node, by, unix_ms());
    run(*db_, "add evacuation", "INSERT INTO evacuations (node, by, request, created_unix_ms) VALUES (?, ?, ?, ?)",
        node, by, request.dump(), unix_ms());
    const std::int64_t number = db_->getLastInsertRowid();
    change.commit();
    return number;
  });
}

void Store::cancel_evacuation(std::int64_t number, const std::string& by) {
  const Durable durable(*this, true);
  run(*db_, "cancel evacuation", "UPDATE evacuations SET cancelled_by = coalesce(cancelled_by, ?) WHERE number = ?", by,
      number);
}

void Store::finish_evacuation(std::int64_t number, const nlohmann::json& report) {
  const Durable durable(*this);
  run(*db_, "finish evacuation", "UPDATE evacuations SET report = ? WHERE number = ?", text_of(report), number);
}

std::vector<StoredEvacuation> Store::evacuations() const {
  return doing("read evacuations", [&] {
    SQLite::Statement rows(*db_,
                           "SELECT number, node, by, request, created_unix_ms, cancelled_by, report FROM evacuations"
                           " WHERE number IN (SELECT max(number) FROM evacuations GROUP BY node) ORDER BY number");
    std::vector<StoredEvacuation> found;
    while (rows.executeStep()) {
      StoredEvacuation e{.number = rows.getColumn(0).getInt64(),
                         .node = rows.getColumn(1).getString(),
                         .by = rows.getColumn(2).getString(),
                         .request = nlohmann::json::parse(rows.getColumn(3).getString()),
                         .created_unix_ms = rows.getColumn(4).getInt64(),
                         .cancelled_by = {},
                         .report = {}};
      if (!rows.getColumn(5).isNull()) e.cancelled_by = rows.getColumn(5).getString();
      if (!rows.getColumn(6).isNull()) e.report = nlohmann::json::parse(rows.getColumn(6).getString());
      found.push_back(std::move(e));
    }
    return found;
  });
}

void Store::adopt(std::int64_t evacuation, const std::string& migration) {
  run(*db_, "adopt migration", "INSERT OR IGNORE INTO moves VALUES (?, ?, 0)", evacuation, migration);
}

std::vector<StoredMove> Store::moves(std::int64_t evacuation) const {
  return doing("read moves", [&] {
    SQLite::Statement rows(*db_, "SELECT migration, own FROM moves WHERE evacuation = ? ORDER BY rowid");
    rows.bind(1, evacuation);
    std::vector<StoredMove> found;
    while (rows.executeStep())
      found.push_back({.migration = rows.getColumn(0).getString(), .own = rows.getColumn(1).getInt() != 0});
    return found;
  });
}

void Store::place(const Placement& p) {
  run(*db_, "place workload", "INSERT OR REPLACE INTO workloads VALUES (?, ?, ?, ?, ?)", p.workload, p.node, p.copy,
      p.state, unix_ms());
}

void Store::forget(const std::string& workload, const std::string& node) {
  run(*db_, "forget workload", "DELETE FROM workloads WHERE workload = ? AND node = ?", workload, node);
}

std::vector<Placement> Store::placements() const {
  return doing("read placements", [&] {
    SQLite::Statement rows(*db_, "SELECT workload, node, copy, state FROM workloads ORDER BY workload, node");
    std::vector<Placement> found;
    while (rows.executeStep())
      found.push_back({rows.getColumn(0).getString(), rows.getColumn(1).getString(), rows.getColumn(2).getString(),
                       rows.getColumn(3).getString()});
    return found;
  });
}

void Store::checkpoint() noexcept {
  if (pausing()) return;
  try {
    db_->exec("PRAGMA wal_checkpoint(PASSIVE)");
  } catch (const SQLite::Exception& e) {
    log::warn("journal.checkpoint_failed", {{"error", e.what()}});
  }
}

Store::Pause::Pause(Store& store) : store_(store) { store_.pauses_++; }

Store::Pause::~Pause() {
  if (--store_.pauses_ == 0) store_.checkpoint();
}

}  // namespace godwit::coordinator
