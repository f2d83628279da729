// What of the journal is on the disk, and when: a machine that loses its power must not make the coordinator give out
// an id or an epoch twice, nor forget how a migration ended, nor a cordon. And in a pause nobody waits for a disk.
#include "coordinator/store/store.h"
#include "tests/support/synced_disk.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <filesystem>

#include <stdlib.h>

namespace godwit::coordinator {
namespace {

class StoreOnDisk : public testing::Test {
 protected:
  ~StoreOnDisk() override {
    store.reset();
    std::filesystem::remove_all(root);
  }
  std::unique_ptr<Store> found_after_power_loss() {
    disk.find_after_power_loss(root + "/found");
    return std::make_unique<Store>(root + "/found/journal.db");
  }
  static Migration migration(const std::string& id) {
    Migration m{.id = id, .epoch = 1, .created_unix_ms = 1000};
    m.spec.workload = "redis";
    m.spec.source = "a";
    m.spec.destination = "b";
    return m;
  }

  std::string root = [] {
    char name[] = "/tmp/godwit-store-XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  std::string state = [this] {
    std::filesystem::create_directory(root + "/state");
    return root + "/state";
  }();
  test::SyncedDisk disk{state};
  std::unique_ptr<Store> store = std::make_unique<Store>(state + "/journal.db");
};

TEST_F(StoreOnDisk, an_id_that_was_given_out_is_known) {
  store->add(migration("m1"));
  EXPECT_TRUE(found_after_power_loss()->migration("m1"));
}

TEST_F(StoreOnDisk, an_epoch_that_was_given_out_is_known) {
  EXPECT_EQ(store->next_epoch("redis", 4), 5u);
  EXPECT_EQ(found_after_power_loss()->highest_epoch("redis"), 5u);
}

TEST_F(StoreOnDisk, an_outcome_is_known_with_all_that_came_before_it) {
  Migration m = migration("m1");
  store->add(m);
  store->append("m1", "notice", {{"text", "before"}});
  m.phase = Phase::done;
  m.outcome = Outcome::done;
  store->finish(m);
  const auto found = found_after_power_loss();
  EXPECT_EQ(found->migration("m1")->outcome, Outcome::done);
  EXPECT_EQ(found->events("m1", 0).size(), 1u);
}

TEST_F(StoreOnDisk, a_cordon_is_known_and_that_it_was_lifted) {
  store->cordon("a", "ann");
  EXPECT_EQ(found_after_power_loss()->cordons().size(), 1u);
  store->uncordon("a");
  EXPECT_TRUE(found_after_power_loss()->cordons().empty());
}

TEST_F(StoreOnDisk, an_evacuation_is_known_with_its_cordon_its_moves_and_its_end) {
  const std::int64_t number = store->add_evacuation("a", "ann", {{"parallel", 1}});
  EXPECT_EQ(found_after_power_loss()->evacuations().size(), 1u);
  EXPECT_EQ(found_after_power_loss()->cordons().size(), 1u);
  store->add(migration("m1"), number);
  EXPECT_EQ(found_after_power_loss()->moves(number).size(), 1u);
  {
    const Store::Pause pause(*store);
    store->cancel_evacuation(number, "bob");
    EXPECT_EQ(found_after_power_loss()->evacuations()[0].cancelled_by, "bob") << "it waits for nobody's pause";
  }
  store->finish_evacuation(number, {{"state", "ended"}});
  EXPECT_TRUE(found_after_power_loss()->evacuations()[0].report);
}

TEST_F(StoreOnDisk, what_is_appended_durably_waits_for_nobodys_pause) {
  store->add(migration("m1"));
  const Store::Pause pause(*store);
  store->append_durably("m1", "cancel", {{"by", "ann"}});
  EXPECT_EQ(found_after_power_loss()->events("m1", 0).size(), 1u);
}

TEST_F(StoreOnDisk, the_steps_between_and_those_of_a_pause_wait_for_nothing) {
  Migration m = migration("m1");
  store->add(m);
  const std::size_t before = disk.synced().size();
  EXPECT_GT(before, 0u);
  store->enter("m1", Phase::precopy);
  store->append("m1", "phase", {{"phase", "precopy"}});
  {
    const Store::Pause pause(*store);
    store->enter("m1", Phase::freezing);
    store->cordon("a", "ann");
    EXPECT_EQ(disk.synced().size(), before);
  }
  EXPECT_GT(disk.synced().size(), before) << "the end of the pause makes up for it";
  EXPECT_EQ(found_after_power_loss()->migration("m1")->phase, Phase::freezing);
}

}  // namespace
}  // namespace godwit::coordinator
