#include "agent/service/cgroup_root.h"

#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(CgroupRootNote, says_what_was_put_into_it) {
  const auto read = parse_cgroup_root(to_text({.boot_id = "b00t", .id = 1ull << 40, .path = "/sys/fs/my cgroups\n"}));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->boot_id, "b00t");
  EXPECT_EQ(read->id, 1ull << 40);
  EXPECT_EQ(read->path, "/sys/fs/my cgroups\n");
  for (const char* nonsense : {"", " ", "b00t", "b00t ", "b00t 12", "b00t x /a", "b00t -1 /a", " 12 /a"})
    EXPECT_FALSE(parse_cgroup_root(nonsense)) << nonsense;
}

class CgroupRootTest : public MigrationTest {
 protected:
  std::string error_of_restart_in(TestNode& node, const std::string& root) {
    node.options.cgroup = root;
    return error_of([&] { pair.restart(node); });
  }
  Key source_key() const { return key_of(id, Side::source); }
  Key destination_key() const { return key_of(id, Side::destination); }

  workload::TestCgroup elsewhere{"elsewhere"};
  std::string right;
};

TEST_F(CgroupRootTest, that_is_another_one_is_refused_while_a_frozen_copy_is_below_the_first) {
  const pid_t root = run_workload();
  identify("armed");
  const std::string token = arm_all();
  right = a.options.cgroup;
  EXPECT_THAT(error_of_restart_in(a, elsewhere.path()),
              AllOf(HasSubstr("refused"), HasSubstr(right), HasSubstr(elsewhere.path())));
  EXPECT_EQ(error_of_restart_in(a, right), "it succeeded");
  EXPECT_EQ(source(), SourcePhase::armed) << "nothing was recorded";
  EXPECT_EQ(state_at(a), "frozen");
  EXPECT_EQ(::kill(root, 0), 0);
  commit(token);
  EXPECT_TRUE(becomes(SourcePhase::killed));
}

TEST_F(CgroupRootTest, that_is_another_one_does_not_make_lost_what_runs_already) {
  run_workload();
  identify("thawed");
  arm_all();
  b.records().enter(Record(*b.records().find(destination_key())), DestinationPhase::committed);
  workload::Cgroup::open(b.options.cgroup + "/thawed.1.dst")->request_thaw();
  right = b.options.cgroup;
  EXPECT_THAT(error_of_restart_in(b, elsewhere.path()), HasSubstr("refused"));
  EXPECT_EQ(source(), SourcePhase::armed);
  EXPECT_EQ(error_of_restart_in(b, right), "it succeeded");
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(CgroupRootTest, that_is_another_one_is_taken_when_nothing_is_left_below_the_first) {
  right = b.options.cgroup;
  b.drop();
  const auto first = workload::Cgroup::open(right);
  ASSERT_TRUE(pair.turn_until([&] { return !first->populated(); })) << "its page server has not ended";
  EXPECT_EQ(error_of_restart_in(b, elsewhere.path()), "it succeeded");
  b.drop();
  ASSERT_TRUE(pair.turn_until([&] { return !elsewhere->populated(); }));
  workload::Cgroup::destroy(elsewhere.path(), std::chrono::seconds(5));
  EXPECT_EQ(error_of_restart_in(b, right), "it succeeded") << "nor when the first was removed";
}

// The mount was moved: the tree is what it was.
TEST_F(CgroupRootTest, is_the_same_one_by_another_path) {
  const pid_t root = run_workload();
  identify("frozen");
  arm_all();
  right = a.options.cgroup;
  const std::string link = a.options.state + "/by another path";
  std::filesystem::create_directory_symlink(right, link);
  EXPECT_EQ(error_of_restart_in(a, link), "it succeeded");
  EXPECT_EQ(state_at(a), "frozen");
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(CgroupRootTest, of_the_boot_before_says_nothing) {
  run_workload();
  const std::string note = a.options.state + "/cgroup";
  auto kept = parse_cgroup_root(read_file(note));
  ASSERT_TRUE(kept);
  kept->boot_id = "of the boot before";
  write_file(note, to_text(*kept));
  right = a.options.cgroup;
  EXPECT_EQ(error_of_restart_in(a, elsewhere.path()), "it succeeded");
  a.drop();
  EXPECT_TRUE(pair.turn_until([&] { return !elsewhere->populated(); }));
  EXPECT_EQ(error_of_restart_in(a, right), "it succeeded");
}

}  // namespace
}  // namespace godwit::service
