#include "agent/service/records.h"

#include "agent/service/record_format.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <functional>

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

namespace godwit::service {
namespace {

class RecordsTest : public testing::Test {
 protected:
  RecordsTest() {
    char name[] = "/tmp/godwit-records-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("cannot make a directory");
    directory = name;
    path = directory + "/records";
  }
  ~RecordsTest() override { std::filesystem::remove_all(directory); }

  static Record source(std::string migration, std::uint64_t epoch, std::string workload = "redis") {
    Record r;
    r.key = {.migration = std::move(migration), .epoch = epoch, .side = Side::source};
    r.workload = std::move(workload);
    r.cgroup = "run.1";
    r.boot_id = "boot";
    return r;
  }
  static void settle_as_thawed(Records& records, const Record& r) {
    records.reserve(r);
    records.enter(r, SourcePhase::thawed);
    records.settle(r.key);
  }
  // Overwrites bytes of the copy that a slot's write number `counter` went to.
  void damage(std::size_t slot, std::uint64_t counter) const {
    UniqueFd fd = open_file(path, O_RDWR);
    const std::string rubbish(100, 'x');
    const auto at = head_size + slot * slot_size + (counter % 2) * copy_size + 200;
    pwrite_all(fd.get(), std::as_bytes(std::span(rubbish)), static_cast<off_t>(at));
  }

  std::string directory, path;
};

TEST_F(RecordsTest, come_back_after_reopening) {
  Record r = source("m1", 7);
  std::string uuid;
  {
    Records records = Records::open(path);
    uuid = records.store_uuid();
    records.reserve(r);
    r.pid = 42;
    r.token[31] = 9;
    records.enter(r, SourcePhase::frozen);
    records.enter(r, SourcePhase::armed);
  }
  Records records = Records::open(path);
  EXPECT_EQ(records.store_uuid(), uuid);
  EXPECT_EQ(uuid.size(), 36u);
  const Record* found = records.find(r.key);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->source(), SourcePhase::armed);
  EXPECT_EQ(found->workload, "redis");
  EXPECT_EQ(found->cgroup, "run.1");
  EXPECT_EQ(found->pid, 42);
  EXPECT_EQ(found->token[31], 9);
  EXPECT_EQ(records.highest_epoch("redis"), 7u);
}

TEST_F(RecordsTest, tell_what_was_resolved_from_what_is_to_be_held) {
  Record resolved = source("m1", 1), hold = source("m2", 1);
  resolved.resolved = true;
  hold.key.side = Side::destination;
  hold.hold = true;
  {
    Records records = Records::open(path);
    records.reserve(resolved);
    records.enter(resolved, SourcePhase::thawed);
    records.reserve(hold);
    records.enter(hold, DestinationPhase::refused);
  }
  Records records = Records::open(path);
  EXPECT_TRUE(records.find(resolved.key)->resolved);
  EXPECT_FALSE(records.find(resolved.key)->hold);
  EXPECT_FALSE(records.find(hold.key)->resolved);
  EXPECT_TRUE(records.find(hold.key)->hold);
}

TEST_F(RecordsTest, a_reservation_is_not_durable) {
  {
    Records records = Records::open(path);
    records.reserve(source("m1", 7));
  }
  EXPECT_FALSE(Records::open(path).find(source("m1", 7).key));
}

TEST_F(RecordsTest, refuse_a_step_that_the_table_does_not_have) {
  Records records = Records::open(path);
  const Record r = source("m1", 1);
  records.reserve(r);
  EXPECT_THROW(records.enter(r, SourcePhase::killing), Error);
  records.enter(r, SourcePhase::frozen);
  EXPECT_THROW(records.enter(r, SourcePhase::killing), Error);
  EXPECT_THROW(records.enter(r, SourcePhase::thawed), Error);
  EXPECT_EQ(records.find(r.key)->source(), SourcePhase::frozen);
}

TEST_F(RecordsTest, a_torn_write_leaves_the_phase_before_it) {
  const Record r = source("m1", 1);
  {
    Records records = Records::open(path);
    records.reserve(r);
    records.enter(r, SourcePhase::frozen);
    records.enter(r, SourcePhase::armed);
  }
  damage(0, 2);
  EXPECT_EQ(Records::open(path).find(r.key)->source(), SourcePhase::frozen);
}

TEST_F(RecordsTest, a_torn_first_write_is_no_record) {
  const Record r = source("m1", 1);
  {
    Records records = Records::open(path);
    records.reserve(r);
    records.enter(r, SourcePhase::frozen);
  }
  damage(0, 1);
  EXPECT_FALSE(Records::open(path).find(r.key));
}

TEST_F(RecordsTest, two_damaged_copies_are_an_error) {
  const Record r = source("m1", 1);
  {
    Records records = Records::open(path);
    records.reserve(r);
    records.enter(r, SourcePhase::frozen);
    records.enter(r, SourcePhase::armed);
  }
  damage(0, 1);
  damage(0, 2);
  try {
    Records::open(path);
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::image_corrupt);
  }
}

TEST_F(RecordsTest, names_that_do_not_fit_are_refused_at_the_reservation) {
  Records records = Records::open(path);
  EXPECT_THROW(records.reserve(source(std::string(64, 'm'), 1)), Error);
}

TEST_F(RecordsTest, slots_of_settled_migrations_are_used_again_but_the_highest_epoch_stays) {
  Records records = Records::open(path, 3);
  settle_as_thawed(records, source("m1", 1));
  settle_as_thawed(records, source("m2", 2));
  settle_as_thawed(records, source("m3", 3));
  for (std::uint64_t epoch = 4; epoch < 20; ++epoch)
    settle_as_thawed(records, source("m" + std::to_string(epoch), epoch));
  EXPECT_EQ(Records::open(path).highest_epoch("redis"), 19u);

  records.reserve(source("n1", 1, "nginx"));
  records.reserve(source("n2", 2, "nginx"));
  try {
    records.reserve(source("n3", 3, "nginx"));
    FAIL() << "took a slot that is held";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::no_space);
  }
  records.forget(source("n1", 1).key);
  records.reserve(source("n3", 3, "nginx"));
}

TEST_F(RecordsTest, a_full_disk_strikes_when_the_file_is_made_and_never_later) {
  check(::mount("godwit-test", directory.c_str(), "tmpfs", 0, "size=64k"), "mount a small tmpfs");
  try {
    Records::open(path);
    ADD_FAILURE() << "4 MiB fitted into 64 KiB";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::no_space);
  }
  {
    std::filesystem::remove(path + ".new");
    Records records = Records::open(path, 16);
    UniqueFd filler = open_file(directory + "/filler", O_WRONLY | O_CREAT, 0600);
    const std::string page(4096, 'f');
    while (::write(filler.get(), page.data(), page.size()) > 0) {
    }
    const Record r = source("m1", 1);
    records.reserve(r);
    records.enter(r, SourcePhase::frozen);
    records.enter(r, SourcePhase::aborted);
    records.enter(r, SourcePhase::thawed);
  }
  check(::umount(directory.c_str()), "unmount");
}

// Files of this process cannot grow nor be written in its scope, in a child: the limit on them is for good otherwise.
struct NoWrites {
  NoWrites() {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before);
    rlimit none = before;
    none.rlim_cur = 0;
    ::setrlimit(RLIMIT_FSIZE, &none);
  }
  ~NoWrites() { ::setrlimit(RLIMIT_FSIZE, &before); }
  rlimit before{};
};

bool fails(Records& records, const Record& r, SourcePhase to) {
  const NoWrites none;
  try {
    records.enter(r, to);
  } catch (const Error&) {
    return true;
  }
  return false;
}

int status_of(const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  check(::waitpid(child, &status, 0), "wait");
  return status;
}

TEST_F(RecordsTest, a_failed_write_moves_nothing_and_can_be_tried_again) {
  const Record r = source("m1", 1);
  Records records = Records::open(path, 16);
  records.reserve(r);
  const auto in_a_child = [&] {
    const bool failed = fails(records, r, SourcePhase::frozen);
    const bool still_none = records.find(r.key)->source() == SourcePhase::none;
    records.enter(r, SourcePhase::frozen);
    return failed && still_none;
  };
  EXPECT_EQ(status_of(in_a_child), 0);
  EXPECT_EQ(Records::open(path).find(r.key)->source(), SourcePhase::frozen);
}

// The slot still holds the record of its last user when the first write for the new one fails.
TEST_F(RecordsTest, a_failed_write_into_a_slot_that_is_used_again_leaves_the_new_user_there) {
  Records records = Records::open(path, 3);
  for (std::uint64_t epoch = 1; epoch <= 3; ++epoch)
    settle_as_thawed(records, source("m" + std::to_string(epoch), epoch));
  const Record r = source("new", 4);
  records.reserve(r);
  EXPECT_FALSE(records.find(source("m1", 1).key)) << "the new one is in another slot than the test is about";
  const auto in_a_child = [&] {
    const bool failed = fails(records, r, SourcePhase::frozen);
    const Record* found = records.find(r.key);
    const bool there = found && found->source() == SourcePhase::none && found->workload == "redis";
    const bool old_is_gone = !records.find(source("m1", 1).key) && records.all().size() == 3;
    records.enter(r, SourcePhase::frozen);
    return failed && there && old_is_gone;
  };
  EXPECT_EQ(status_of(in_a_child), 0);
  Records again = Records::open(path);
  ASSERT_TRUE(again.find(r.key));
  EXPECT_EQ(again.find(r.key)->source(), SourcePhase::frozen);
  EXPECT_FALSE(again.find(source("m1", 1).key));
}

TEST_F(RecordsTest, keep_what_a_side_has_for_itself) {
  Record s = source("m1", 1);
  s.peer_address = "10.0.0.2:7442";
  s.resolved = true;
  Record d = s;
  d.key.side = Side::destination;
  d.relay_key[0] = 7, d.relay_key[31] = 8;
  {
    Records records = Records::open(path, 16);
    records.reserve(s);
    records.enter(s, SourcePhase::thawed);
    records.reserve(d);
    records.enter(d, DestinationPhase::building);
  }
  Records records = Records::open(path);
  EXPECT_EQ(records.find(s.key)->peer_address, "10.0.0.2:7442");
  EXPECT_TRUE(records.find(s.key)->resolved);
  EXPECT_EQ(records.find(d.key)->relay_key, d.relay_key);
  EXPECT_EQ(records.find(d.key)->peer_address, "");
}

TEST(Phases, say_which_steps_exist) {
  EXPECT_TRUE(allowed(SourcePhase::armed, SourcePhase::killing));
  EXPECT_FALSE(allowed(SourcePhase::frozen, SourcePhase::killing));
  EXPECT_FALSE(allowed(DestinationPhase::building, DestinationPhase::committed));
}

}  // namespace
}  // namespace godwit::service
