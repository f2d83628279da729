#include "coordinator/store/store.h"

#include "coordinator/store/schema.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <filesystem>

#include <stdlib.h>

namespace godwit::coordinator {
namespace {

class StoreTest : public testing::Test {
 protected:
  std::string directory = [] {
    char name[] = "/tmp/godwit-store-XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  std::string path = directory + "/journal.db";
  std::unique_ptr<Store> store = std::make_unique<Store>(path);

  ~StoreTest() override {
    store.reset();
    std::filesystem::remove_all(directory);
  }

  void reopen() {
    store.reset();
    store = std::make_unique<Store>(path);
  }

  static Migration migration(const std::string& id) {
    Migration m{.id = id, .epoch = 1, .created_unix_ms = 1000};
    m.spec.workload = "redis";
    m.spec.source = "a";
    m.spec.destination = "b";
    return m;
  }
};

TEST_F(StoreTest, names_a_row_that_is_damaged) {
  const auto damage = [&](const std::string& change) {
    store.reset();
    SQLite::Database(path, SQLite::OPEN_READWRITE).exec(change);
    reopen();
  };
  const auto error_of = [](auto read) -> std::string {
    try {
      read();
    } catch (const Error& e) {
      return e.message();
    }
    return "no error";
  };
  store->add(migration("m"));
  store->append("m", "phase", {{"phase", "precopy"}});
  damage("INSERT INTO events (migration, at_unix_ms, kind, body) VALUES ('m', 1, 'phase', '{')");
  EXPECT_EQ(error_of([&] { store->events("m", 0); }).substr(0, 22), "journal: read events: ");
  damage("UPDATE migrations SET spec = '{'");
  EXPECT_EQ(error_of([&] { store->migration("m"); }).substr(0, 25), "journal: read migration: ");
  EXPECT_EQ(error_of([&] { store->migrations(5, ""); }).substr(0, 25), "journal: list migrations:");
}

TEST_F(StoreTest, brings_a_journal_of_every_earlier_schema_up_to_date) {
  for (int version = 1; version < schema_version; version++) {
    store.reset();
    std::filesystem::remove_all(directory);
    std::filesystem::create_directory(directory);
    {
      SQLite::Database old(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
      for (int i = 0; i < version; i++) old.exec(schema_changes[static_cast<std::size_t>(i)]);
      old.exec("PRAGMA user_version = " + std::to_string(version));
      old.exec("INSERT INTO epochs VALUES ('redis', 7)");
    }
    reopen();
    EXPECT_EQ(store->highest_epoch("redis"), 7u);
    store->cordon("b", "ann");
    reopen();
    ASSERT_EQ(store->cordons().size(), 1u);
    EXPECT_EQ(store->cordons()[0].by, "ann");
  }
}

TEST_F(StoreTest, keeps_the_last_evacuation_of_each_node_with_its_moves) {
  EXPECT_TRUE(store->evacuations().empty());
  const std::int64_t before = store->add_evacuation("a", "ann", {{"parallel", 1}});
  store->add(migration("m1"), before);
  store->finish_evacuation(before, {{"workloads", {"\xff"}}});
  const std::int64_t number = store->add_evacuation("a", "bob", {{"parallel", 2}});
  store->add_evacuation("b", "ann", {{"parallel", 3}});
  store->add(migration("m2"));
  store->adopt(number, "m2");
  store->adopt(number, "m2");
  store->add(migration("m3"), number);
  EXPECT_THROW(store->adopt(number, "m9"), Error) << "there is no such migration";
  store->cancel_evacuation(number, "ann");
  store->cancel_evacuation(number, "cid");
  reopen();
  const std::vector<StoredEvacuation> found = store->evacuations();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].number, number);
  EXPECT_EQ(found[0].node, "a");
  EXPECT_EQ(found[0].by, "bob");
  EXPECT_EQ(found[0].request["parallel"], 2);
  EXPECT_GT(found[0].created_unix_ms, 0);
  EXPECT_EQ(found[0].cancelled_by, "ann");
  EXPECT_FALSE(found[0].report);
  const std::vector<StoredMove> moves = store->moves(number);
  ASSERT_EQ(moves.size(), 2u);
  EXPECT_EQ(moves[0].migration, "m2");
  EXPECT_FALSE(moves[0].own);
  EXPECT_EQ(moves[1].migration, "m3");
  EXPECT_TRUE(moves[1].own);
  EXPECT_EQ(store->moves(before).size(), 1u);
  EXPECT_EQ(store->cordons().size(), 2u);
}

TEST_F(StoreTest, a_migration_that_is_no_move_of_its_evacuation_is_none) {
  EXPECT_THROW(store->add(migration("m1"), 7), Error) << "there is no such evacuation";
  EXPECT_FALSE(store->migration("m1"));
}

TEST_F(StoreTest, tells_the_highest_epoch_without_giving_one) {
  EXPECT_EQ(store->highest_epoch("redis"), 0u);
  EXPECT_EQ(store->next_epoch("redis", 4), 5u);
  EXPECT_EQ(store->highest_epoch("redis"), 5u);
  EXPECT_EQ(store->next_epoch("redis", 0), 6u);
}

TEST_F(StoreTest, keeps_a_migration_with_all_its_parts) {
  Migration m = migration("m1");
  store->add(m);
  store->enter("m1", Phase::precopy);
  store->add_round("m1", {.number = 0, .pages = 10, .bytes = 40960, .seconds = 0.5, .dirty_bytes_after = 8192});
  store->add_round("m1", {.number = 1, .pages = 2, .bytes = 8192, .seconds = 0.1, .final = true});
  store->set_prediction("m1", 30'000'000);
  m.phase = Phase::rolled_back;
  m.outcome = Outcome::rolled_back;
  m.reason = Reason{Errc::peer_lost, "the link broke", "look at it"};
  m.total_s = 1.5;
  m.downtime_ns = 42;
  m.steps = {{"freeze", 40}, {"transit", 2}};
  store->finish(m);
  reopen();

  const Migration read = store->migration("m1").value();
  EXPECT_EQ(read.phase, Phase::rolled_back);
  EXPECT_EQ(read.outcome, Outcome::rolled_back);
  EXPECT_EQ(read.reason->code, Errc::peer_lost);
  EXPECT_EQ(read.reason->hint, "look at it");
  ASSERT_EQ(read.rounds.size(), 2u);
  EXPECT_EQ(read.rounds[0].dirty_bytes_after, 8192u);
  EXPECT_TRUE(read.rounds[1].final);
  ASSERT_EQ(read.steps.size(), 2u);
  EXPECT_EQ(read.steps[1].name, "transit");
  EXPECT_EQ(read.predicted_downtime_ns, 30'000'000);
  EXPECT_EQ(store->migration("m2"), std::nullopt);
}

TEST_F(StoreTest, keeps_the_epoch_that_a_migration_was_given_later) {
  store->add(migration("m1"));
  store->set_epoch("m1", 7);
  reopen();
  EXPECT_EQ(store->migration("m1")->epoch, 7u);
}

TEST_F(StoreTest, never_takes_an_id_twice) {
  store->add(migration("m1"));
  EXPECT_THROW(store->add(migration("m1")), Error);
}

TEST_F(StoreTest, lists_what_is_not_over) {
  for (const char* id : {"m1", "m2", "m3", "m4"}) store->add(migration(id));
  Migration over = migration("m1");
  over.phase = Phase::done;
  over.outcome = Outcome::done;
  store->finish(over);
  store->enter("m2", Phase::undecided);
  store->enter("m4", Phase::done);  // the coordinator died before it had written the outcome
  EXPECT_EQ(store->unfinished(), (std::vector<std::string>{"m2", "m3", "m4"}));
}

TEST_F(StoreTest, lists_the_newest_first) {
  store->add(migration("m1"));
  store->add(migration("m2"));
  ASSERT_EQ(store->migrations(10).size(), 2u);
  EXPECT_EQ(store->migrations(1)[0].id, "m2");
  EXPECT_EQ(store->migrations(10, "other").size(), 0u);
  EXPECT_EQ(store->migrations(10, "redis").size(), 2u);
}

TEST_F(StoreTest, events_are_appended_and_never_changed) {
  store->add(migration("m1"));
  const StoredEvent first = store->append("m1", "phase", {{"phase", "queued"}});
  store->append("m1", "notice", {{"text", "bytes that are no text: \xff\xfe"}});
  EXPECT_EQ(store->events("m1", 0).size(), 2u);
  EXPECT_EQ(store->events("m1", first.sequence).at(0).kind, "notice");

  SQLite::Database raw(path, SQLite::OPEN_READWRITE);
  EXPECT_THROW(raw.exec("UPDATE events SET kind = 'x'"), SQLite::Exception);
  EXPECT_THROW(raw.exec("DELETE FROM events"), SQLite::Exception);
}

TEST_F(StoreTest, epochs_only_grow) {
  EXPECT_EQ(store->next_epoch("redis", 0), 1u);
  EXPECT_EQ(store->next_epoch("redis", 0), 2u);
  EXPECT_EQ(store->next_epoch("redis", 7), 8u);
  EXPECT_EQ(store->next_epoch("redis", 3), 9u);
  reopen();
  EXPECT_EQ(store->next_epoch("redis", 0), 10u);
  EXPECT_EQ(store->next_epoch("other", 0), 1u);
}

TEST_F(StoreTest, writes_in_a_pause_and_keeps_them) {
  store->add(migration("m1"));
  {
    const Store::Pause one(*store);
    const Store::Pause two(*store);
    EXPECT_TRUE(store->pausing());
    store->enter("m1", Phase::finishing);
    store->checkpoint();
  }
  EXPECT_FALSE(store->pausing());
  reopen();
  EXPECT_EQ(store->migration("m1")->phase, Phase::finishing);
}

TEST_F(StoreTest, is_had_by_one_coordinator_at_a_time) {
  store->add(migration("m1"));
  try {
    Store second(path);
    FAIL() << "two drive the same migrations";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::busy);
    EXPECT_EQ(e.message(), "another coordinator has the journal " + path);
  }
  reopen();
  EXPECT_TRUE(store->migration("m1"));
}

TEST_F(StoreTest, refuses_a_journal_from_the_future) {
  store.reset();
  {
    SQLite::Database(path, SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99");
  }
  EXPECT_THROW(Store{path}, Error);
}

}  // namespace
}  // namespace godwit::coordinator
