// While the workload stands still nobody waits for the coordinator's disk, however slow that is.
#include "coordinator/testing/cluster.h"
#include "tests/support/synced_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

namespace godwit::coordinator {
namespace {

using Env = api::Envelope;

TEST(Pause, has_no_fsync_of_the_coordinator_in_it) {
  char directory[] = "/tmp/godwit-journal-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  {
    test::SyncedDisk disk(directory);
    Cluster c(short_limits(), std::string(directory) + "/journal.db");
    std::vector<std::pair<Env::BodyCase, std::size_t>> asked;  // and what had been synced before
    for (FakeAgent* agent : {&c.a, &c.b})
      agent->on_request = [&](Env::BodyCase body) {
        asked.emplace_back(body, disk.synced().size());
        if (body == Env::kFinish) c.store.cordon("b", "ann");  // what would be synced at once otherwise
      };
    EXPECT_EQ(c.migrate().phase, Phase::done);

    const auto freeze = std::ranges::find(asked, Env::kFreeze, &std::pair<Env::BodyCase, std::size_t>::first);
    ASSERT_NE(freeze, asked.end());
    const std::size_t before = freeze->second;
    EXPECT_GT(before, 0u);
    ASSERT_GE(asked.end() - freeze, 5);
    EXPECT_THAT(std::vector(freeze, freeze + 5),
                testing::ElementsAre(std::pair(Env::kFreeze, before), std::pair(Env::kFinish, before),
                                     std::pair(Env::kArm, before), std::pair(Env::kCommit, before),
                                     std::pair(Env::kKillSource, before)));
    EXPECT_GT(disk.synced().size(), before) << "afterwards the outcome is kept";
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace godwit::coordinator
