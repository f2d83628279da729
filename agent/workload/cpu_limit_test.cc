// On processes that spin, by the CPU time that they get; and on a directory that plays a cgroup with the controller.
#include "agent/workload/cpu_limit.h"

#include "agent/workload/spawn.h"
#include "agent/workload/test_cgroup.h"
#include "common/proc/reader.h"

#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include <sys/wait.h>

namespace godwit::workload {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(CpuQuota, has_short_periods_where_the_kernel_takes_them) {
  const auto of = [](double cpus) {
    const CpuQuota q = quota_of(cpus);
    return std::vector{q.quota_us, q.period_us};
  };
  EXPECT_THAT(of(1), ElementsAre(10'000, 10'000));
  EXPECT_THAT(of(3.5), ElementsAre(35'000, 10'000));
  EXPECT_THAT(of(0.1), ElementsAre(1'000, 10'000));
  EXPECT_THAT(of(0.02), ElementsAre(1'000, 50'000));
  EXPECT_THAT(of(0), ElementsAre(1'000, 1'000'000));
  EXPECT_THAT(of(-1), ElementsAre(1'000, 1'000'000));
}

class Directory {
 public:
  Directory() { EXPECT_TRUE(::mkdtemp(path_)); }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string path(const std::string& name) const { return std::string(path_) + "/" + name; }

 private:
  char path_[32] = "/tmp/godwit-limit-XXXXXX";
};

void write_new(const std::string& path, std::string_view text) {
  const UniqueFd fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  write_all(fd.get(), std::as_bytes(std::span(text)));
}

// A cgroup of v2 with the cpu controller.
struct PlayedCgroup {
  Directory directory;
  std::string copy = directory.path("copy"), file = copy + "/cpu.max", note = directory.path("note");

  PlayedCgroup() {
    std::filesystem::create_directory(copy);
    write_new(file, "50000 100000\n");
  }
};

TEST(CpuLimit, is_written_to_the_copy_itself_where_the_controller_is_v2) {
  PlayedCgroup cgroup;
  {
    CpuLimit limit(cgroup.copy, "unused", cgroup.note);
    EXPECT_FALSE(std::filesystem::exists(cgroup.note));
    write_new(cgroup.file, "");
    limit.set(0.3);
    EXPECT_EQ(read_file(cgroup.file), "3000 10000");
    EXPECT_TRUE(std::filesystem::exists(cgroup.note));
    write_new(cgroup.file, "");
  }
  EXPECT_EQ(read_file(cgroup.file), "50000 100000") << "what somebody else had set";
  EXPECT_FALSE(std::filesystem::exists(cgroup.note));
}

TEST(CpuLimit, that_was_never_set_lifts_nothing) {
  PlayedCgroup cgroup;
  write_new(cgroup.file, "max 100000\n");
  {
    CpuLimit limit(cgroup.copy, "unused", cgroup.note);
  }
  EXPECT_EQ(read_file(cgroup.file), "max 100000\n");
}

TEST(CpuLimit, enables_the_controller_where_its_parent_has_it) {
  Directory parent;
  std::filesystem::create_directory(parent.path("copy"));
  write_new(parent.path("cgroup.subtree_control"), "");
  write_new(parent.path("cgroup.controllers"), "cpuset io memory\n");
  EXPECT_FALSE(limit_place_v2(parent.path("copy")));
  EXPECT_EQ(read_file(parent.path("cgroup.subtree_control")), "");
  write_new(parent.path("cgroup.controllers"), "cpuset cpu io\n");
  limit_place_v2(parent.path("copy"));
  EXPECT_EQ(read_file(parent.path("cgroup.subtree_control")), "+cpu");
}

std::string cpu_group_of(pid_t pid) {
  for (const proc::CgroupLine& line : proc::Reader(pid).cgroup())
    if (line.controllers == "cpu" || line.controllers.starts_with("cpu,")) return line.path;
  return {};
}

class SpinnerTest : public testing::Test {
 protected:
  // Two processes, the second one a child that is always a new one.
  pid_t spin() {
    child_ = spawn({.program = "/bin/sh",
                    .arguments = {"-c", "while :; do (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done); done"},
                    .environment = {},
                    .cgroup = cgroup_->dir()});
    return child_.pid;
  }
  ~SpinnerTest() override {
    if (!child_.pidfd) return;
    send_signal(child_.pidfd.get(), SIGKILL);
    siginfo_t info{};
    ::waitid(P_PIDFD, static_cast<id_t>(child_.pidfd.get()), &info, WEXITED);
  }
  // CPUs in use, over a while.
  double use(std::chrono::milliseconds time = 500ms) {
    const std::uint64_t before = cpu_time_us(*cgroup_);
    const auto begin = Clock::now();
    std::this_thread::sleep_for(time);
    return static_cast<double>(cpu_time_us(*cgroup_) - before) / 1e6 /
           std::chrono::duration<double>(Clock::now() - begin).count();
  }
  void expect_unlimited() {
    double most = 0;
    for (int i = 0; i < 40 && most < 0.12; ++i) most = std::max(most, use(250ms));
    EXPECT_GE(most, 0.12) << "CPUs, on however busy a machine";
  }

  TestCgroup cgroup_{"limit"};
  Directory directory_;
  Child child_;
};

TEST_F(SpinnerTest, gets_less_cpu_time_and_then_all_of_it_again) {
  const std::string home = cpu_group_of(spin());
  CpuLimit limit(cgroup_->path(), "godwit-limit-test", directory_.path("note"));
  limit.set(0.5);
  limit.set(0.05);
  EXPECT_LT(use(), 0.08);
  EXPECT_FALSE(limit.place().file.empty());
  EXPECT_NE(read_file(limit.place().file), limit.place().lifted + "\n");
  limit.lift();
  expect_unlimited();
  EXPECT_EQ(cpu_group_of(child_.pid), home);
  EXPECT_FALSE(std::filesystem::exists(limit.place().group));
  EXPECT_FALSE(std::filesystem::exists(directory_.path("note")));
}

TEST_F(SpinnerTest, is_let_go_by_one_write_to_the_place_that_is_named) {
  spin();
  CpuLimit limit(cgroup_->path(), "godwit-limit-test", directory_.path("note"));
  limit.set(0.05);
  EXPECT_LT(use(), 0.08);
  write_new(limit.place().file, limit.place().lifted);
  expect_unlimited();
}

TEST_F(SpinnerTest, is_let_go_by_the_next_life_of_whoever_limited_it) {
  const std::string home = cpu_group_of(spin());
  CpuLimit lost(cgroup_->path(), "godwit-limit-test", directory_.path("note"));
  lost.set(0.05);
  EXPECT_LT(use(), 0.08);
  CpuLimit::lift_noted(directory_.path("note"));
  expect_unlimited();
  EXPECT_EQ(cpu_group_of(child_.pid), home);
  EXPECT_FALSE(std::filesystem::exists(lost.place().group));
  EXPECT_FALSE(std::filesystem::exists(directory_.path("note")));
  CpuLimit::lift_noted(directory_.path("note"));  // once more does no harm
}

TEST_F(SpinnerTest, that_has_ended_leaves_nothing_behind) {
  spin();
  CpuLimit limit(cgroup_->path(), "godwit-limit-test", directory_.path("note"));
  limit.set(0.05);
  const std::string group = limit.place().group;
  cgroup_->kill();
  cgroup_->wait_empty(5s);
  limit.lift();
  EXPECT_FALSE(!group.empty() && std::filesystem::exists(group));
  EXPECT_FALSE(std::filesystem::exists(directory_.path("note")));
}

TEST(CpuLimit, of_a_cgroup_without_tasks_is_refused_and_leaves_nothing) {
  TestCgroup cgroup("limit-empty");
  Directory directory;
  if (limit_place_v2(cgroup->path())) return;  // there it is the cgroup's, whoever is in it
  EXPECT_THROW(CpuLimit(cgroup->path(), "godwit-limit-test", directory.path("note")), Error);
  EXPECT_FALSE(std::filesystem::exists(directory.path("note")));
}

}  // namespace
}  // namespace godwit::workload
