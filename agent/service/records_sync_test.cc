// A record is on the disk when the call that writes it returns: whatever is done then may be built on it, also when the
// power fails in the next moment.
#include "agent/service/records.h"
#include "tests/support/synced_disk.h"

#include <gtest/gtest.h>

#include <filesystem>

#include <stdlib.h>

namespace godwit::service {
namespace {

class RecordsOnDisk : public testing::Test {
 protected:
  ~RecordsOnDisk() override { std::filesystem::remove_all(root); }

  Records found_after_power_loss() {
    disk.find_after_power_loss(root + "/found");
    // What is not there is not made here.
    if (!std::filesystem::exists(root + "/found/records")) fail(Errc::not_found, "the file of the records is gone");
    return Records::open(root + "/found/records");
  }
  std::string found(const Key& key) {
    Records records = found_after_power_loss();
    const Record* r = records.find(key);
    return r ? std::string(phase_name(*r)) + (r->settled ? ", settled" : "") : "none";
  }
  static Record record(Side side) {
    Record r;
    r.key = {.migration = "m1", .epoch = 7, .side = side};
    r.workload = "redis";
    r.cgroup = "run.1";
    return r;
  }

  std::string root = [] {
    char name[] = "/tmp/godwit-records-XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  std::string state = [this] {
    std::filesystem::create_directory(root + "/state");
    return root + "/state";
  }();
  test::SyncedDisk disk{state};
};

TEST_F(RecordsOnDisk, the_file_is_there_with_its_name_as_soon_as_it_was_made) {
  const Records records = Records::open(state + "/records", 16);
  EXPECT_EQ(found_after_power_loss().store_uuid(), records.store_uuid());
}

TEST_F(RecordsOnDisk, every_phase_of_a_source_is_there_before_anything_is_done_about_it) {
  Records records = Records::open(state + "/records", 16);
  const Record r = record(Side::source);
  records.reserve(r);
  EXPECT_EQ(found(r.key), "none");
  for (const SourcePhase phase : {SourcePhase::frozen, SourcePhase::armed, SourcePhase::killing, SourcePhase::killed}) {
    records.enter(r, phase);
    EXPECT_EQ(found(r.key), name(phase));
  }
  records.settle(r.key);
  EXPECT_EQ(found(r.key), "killed, settled");
}

TEST_F(RecordsOnDisk, every_phase_of_a_destination_is_there_before_anything_is_done_about_it) {
  Records records = Records::open(state + "/records", 16);
  const Record r = record(Side::destination);
  records.reserve(r);
  for (const DestinationPhase phase : {DestinationPhase::building, DestinationPhase::prepared,
                                       DestinationPhase::committed, DestinationPhase::resumed}) {
    records.enter(r, phase);
    EXPECT_EQ(found(r.key), name(phase));
  }
}

}  // namespace
}  // namespace godwit::service
