// Processes that are migrated by PID: whatever becomes of the migration, those that stay are in their own cgroups
// again.
#include "agent/service/test_migration.h"
#include "common/proc/reader.h"

#include <sys/wait.h>

namespace godwit::service {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class HomesTest : public MigrationTest {
 protected:
  HomesTest() : one("home-one"), two("home-two") {
    parent = ::fork();
    if (parent == 0) {
      ::setsid();
      ::execl("/bin/sh", "sh", "-c", "while :; do sleep 0.1; done & wait", nullptr);
      ::_exit(127);
    }
    one->add(parent);
    pair.turn_until([&] { return !proc::Reader(parent).children().empty(); });
    child = proc::Reader(parent).children().at(0);
    two->add(child);
  }
  ~HomesTest() override {
    ::kill(-parent, SIGKILL);
    ::waitpid(parent, nullptr, 0);
  }

  void connect_by_pid() {
    const api::Surveyed surveyed = ask(a, [&](api::Envelope& e) {
                                     *e.mutable_survey()->mutable_id() = id;
                                     e.mutable_survey()->set_pid(parent);
                                   }).surveyed();
    connect(prepare(as_from_elsewhere(surveyed)));
  }
  // Both nodes are this machine, where these PIDs are taken.
  static api::Surveyed as_from_elsewhere(api::Surveyed surveyed) {
    engine::Surveyed survey;
    survey.ParseFromString(surveyed.engine());
    for (const char* ns : {"pid", "mnt", "ipc"}) survey.add_namespaces(ns);
    for (int i = 0; i < survey.tasks_size(); ++i) survey.mutable_tasks(i)->set_guest_pid(2 + i);
    surveyed.set_engine(survey.SerializeAsString());
    return surveyed;
  }
  std::string copy() const { return a.options.cgroup + "/" + to_string(key_of(id, Side::source)); }
  static std::string at(pid_t pid) { return workload::cgroup_of(pid, workload::cgroup2_mount()); }
  void expect_at_home() {
    EXPECT_TRUE(pair.turn_until([&] { return !fs::exists(copy()); })) << copy() << " is left";
    EXPECT_EQ(at(parent), one.path());
    EXPECT_EQ(at(child), two.path());
    EXPECT_TRUE(fs::is_empty(a.options.state + "/homes"));
  }

  workload::TestCgroup one, two;
  pid_t parent = 0, child = 0;
};

TEST_F(HomesTest, are_two_again_after_a_cancelled_migration) {
  identify("cancelled");
  connect_by_pid();
  EXPECT_EQ(at(parent), copy());
  EXPECT_EQ(at(child), copy());
  round(0);
  abort();
  expect_at_home();
}

TEST_F(HomesTest, are_two_again_after_one_that_had_frozen_them) {
  identify("frozen");
  connect_by_pid();
  round(0);
  freeze();
  abort();
  expect_at_home();
}

TEST_F(HomesTest, are_found_again_by_an_agent_that_died_before_there_was_a_record) {
  identify("precopy");
  connect_by_pid();
  round(0);
  pair.restart(a);
  expect_at_home();
}

TEST_F(HomesTest, are_found_again_by_an_agent_that_died_while_they_were_frozen) {
  identify("frozen");
  connect_by_pid();
  round(0);
  freeze();
  pair.restart(a);
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  expect_at_home();
}

TEST_F(HomesTest, are_tried_again_when_their_cgroup_stays_in_use_for_a_while) {
  identify("in-use");
  connect_by_pid();
  round(0);
  const auto inner = workload::Cgroup::create(copy() + "/inner");
  abort();
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }));
  pair.turn_until([] { return false; }, std::chrono::milliseconds(500));
  EXPECT_EQ(at(parent), one.path()) << "who can go goes at once";
  EXPECT_TRUE(fs::exists(copy()));
  EXPECT_TRUE(inner.remove());
  expect_at_home();
}

TEST_F(HomesTest, are_not_forgotten_for_another_migration_of_who_is_on_the_way) {
  identify("homeless");
  connect_by_pid();
  const std::string waits = copy(), note = a.options.state + "/homes/" + to_string(key_of(id, Side::source));
  const std::string homes = read_file(note);
  write_file(note, fmt::format("{} 1 /proc/nowhere\n", parent));
  abort();
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }));
  EXPECT_EQ(at(parent), waits);
  identify("another", 2);
  EXPECT_THAT(error_of([&] { connect_by_pid(); }), HasSubstr("is on its way home from homeless.1.src"));
  EXPECT_EQ(at(parent), waits);
  abort();
  write_file(note, homes);
  identify("homeless");
  expect_at_home();
}

TEST_F(HomesTest, are_not_noted_by_what_a_crash_left_unfinished) {
  std::vector<std::string> unfinished;
  for (const char* file : {"/homes/m.1.src.new", "/limits/m.1.src.new", "/workloads/job.workload.new", "/records.new"})
    unfinished.push_back(a.options.state + file);
  for (const std::string& file : unfinished) write_file(file, "half");
  pair.restart(a);
  for (const std::string& file : unfinished) EXPECT_FALSE(fs::exists(file)) << file;
}

TEST_F(HomesTest, are_not_left_when_they_cannot_be_noted) {
  identify("full");
  fs::remove(a.options.state + "/homes");
  EXPECT_THAT(error_of([&] { connect_by_pid(); }), HasSubstr("homes"));
  fs::create_directory(a.options.state + "/homes");
  abort();
  expect_at_home();
}

}  // namespace
}  // namespace godwit::service
