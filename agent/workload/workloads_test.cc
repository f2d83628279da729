#include "agent/workload/workloads.h"

#include "agent/workload/process.h"
#include "agent/workload/test_cgroup.h"
#include "common/net/test_loop.h"

#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include <sys/mount.h>

namespace godwit::workload {
namespace {

using testing::ElementsAre;

class WorkloadsTest : public testing::Test {
 protected:
  WorkloadsTest() : root("workloads") {
    char name[] = "/tmp/godwit-workloads-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("cannot make a directory");
    directory = name;
    restart();
  }
  ~WorkloadsTest() override {
    workloads.reset();
    std::filesystem::remove_all(directory);
  }

  void restart(const std::string& init = GODWIT_INIT, Clock::duration start_limit = std::chrono::seconds(10)) {
    workloads.reset();
    exited.clear();
    WorkloadsPlan plan{.directory = directory, .cgroup = root.path(), .init = init, .start_limit = start_limit};
    workloads = std::make_unique<Workloads>(io.get_executor(), std::move(plan),
                                            [this](api::WorkloadInfo info) { exited.push_back(info); });
    workloads->load();
  }
  api::WorkloadInfo run(api::RunWorkload request) {
    api::WorkloadInfo info;
    net::run_to_end(io, run_into(workloads.get(), std::move(request), &info));
    return info;
  }
  UniqueFd build(Saved saved) {
    UniqueFd init;
    net::run_to_end(io, build_into(workloads.get(), std::move(saved), &init));
    return init;
  }
  static net::awaitable<void> run_into(Workloads* workloads, api::RunWorkload request, api::WorkloadInfo* info) {
    *info = co_await workloads->run(std::move(request));
  }
  static net::awaitable<void> build_into(Workloads* workloads, Saved saved, UniqueFd* init) {
    *init = co_await workloads->build(std::move(saved), true);
  }
  // An init that does this first.
  std::string init_after(const std::string& commands) const {
    const std::string path = directory + "/init";
    write_file(path, "#!/bin/sh\n" + commands + "\nexec " GODWIT_INIT " \"$@\"\n", 0700);
    return path;
  }
  static api::RunWorkload shell(const std::string& script, const std::string& name = "job") {
    api::RunWorkload request;
    request.set_name(name);
    for (const char* a : {"sh", "-c"}) request.add_argv(a);
    request.add_argv(script);
    return request;
  }
  void run_until_exited() {
    const auto deadline = Clock::now() + std::chrono::seconds(10);
    io.restart();
    while (exited.empty() && Clock::now() < deadline) io.run_one_until(deadline);
    ASSERT_EQ(exited.size(), 1u);
  }
  std::string state(const std::string& name) { return workloads->info(name).state(); }

  boost::asio::io_context io;
  TestCgroup root;
  std::string directory;
  std::unique_ptr<Workloads> workloads;
  std::vector<api::WorkloadInfo> exited;
};

TEST_F(WorkloadsTest, run_and_report_their_end) {
  const auto info = run(shell("echo hello; exit 3"));
  EXPECT_EQ(info.guest_pid(), 2);
  run_until_exited();
  EXPECT_EQ(exited.front().exit_code(), 3);
  EXPECT_EQ(state("job"), "exited");
  EXPECT_EQ(read_file(workloads->log_path("job")), "hello\n");
}

TEST_F(WorkloadsTest, are_found_again_after_the_death_of_the_agent) {
  const auto before = run(shell("exec sleep 60"));
  restart();
  const auto after = workloads->info("job");
  EXPECT_EQ(after.pid(), before.pid());
  EXPECT_EQ(after.id(), before.id());
  EXPECT_EQ(after.state(), "running");
  EXPECT_GT(after.resident_bytes(), 0u);
  workloads->kill("job", SIGTERM);
  run_until_exited();
  EXPECT_EQ(exited.front().exit_code(), 128 + SIGTERM);
}

TEST_F(WorkloadsTest, that_ended_while_nobody_watched_are_reported) {
  run(shell("sleep 0.1; exit 4"));
  const UniqueFd init = find_process(workloads->find("job")->init_pid(), workloads->find("job")->init_start_time());
  workloads.reset();
  wait_for_exit(init.get(), std::chrono::seconds(10));
  restart();
  ASSERT_EQ(exited.size(), 1u);
  EXPECT_EQ(exited.front().exit_code(), 4);
}

TEST_F(WorkloadsTest, are_not_taken_from_files_that_are_none_or_another_ones) {
  const auto id = run(shell("exec sleep 60")).id();
  const std::string good = read_file(directory + "/job.workload");
  write_file(directory + "/other.workload", good);             // would be listed as "job" a second time
  write_file(directory + "/cut.workload", good.substr(0, 7));  // the disk was full
  write_file(directory + "/empty.workload", "");
  write_file(directory + "/large.workload", std::string(2 << 20, 'x'));
  std::filesystem::create_directory(directory + "/directory.workload");
  Saved escaping;
  escaping.mutable_info()->set_name("../../escaped");
  escaping.mutable_info()->set_state("running");
  write_file(directory + "/escaping.workload", escaping.SerializeAsString());
  restart();
  ASSERT_EQ(workloads->list().size(), 1u);
  EXPECT_EQ(workloads->info("job").id(), id);
  EXPECT_TRUE(exited.empty());
  workloads->kill("job", SIGKILL);
  run_until_exited();
}

TEST_F(WorkloadsTest, have_names_of_their_own) {
  run(shell("exec sleep 60"));
  EXPECT_THROW(run(shell("true")), Error);
  EXPECT_THROW(run(shell("true", "../job")), Error);
  workloads->kill("job", SIGKILL);
  run_until_exited();
  exited.clear();
  run(shell("exit 0"));
  run_until_exited();
}

TEST_F(WorkloadsTest, are_known_by_any_of_their_processes) {
  run(shell("sleep 60 & wait"));
  const std::string cgroup = root.path() + "/" + workloads->find("job")->cgroup();
  std::vector<pid_t> pids;
  while (pids.size() < 2) pids = Cgroup::open(cgroup)->pids();
  for (const pid_t pid : pids) EXPECT_EQ(workloads->find_by_pid(pid)->info().name(), "job");
  EXPECT_EQ(workloads->find_by_pid(::getpid()), nullptr);
}

TEST_F(WorkloadsTest, leave_nothing_when_they_depart) {
  run(shell("exec sleep 60"));
  const std::string cgroup = workloads->find("job")->cgroup();
  workloads->depart("job");
  Cgroup::destroy(root.path() + "/" + cgroup, std::chrono::seconds(5));
  workloads->forget("job", "another.1.src");
  EXPECT_TRUE(workloads->find("job"));
  workloads->forget("job", cgroup);
  EXPECT_FALSE(workloads->find("job"));
  EXPECT_TRUE(exited.empty());
  Cgroup::open(root.path() + "/inits")->wait_empty(std::chrono::seconds(5));
}

TEST_F(WorkloadsTest, that_stay_after_all_are_watched_on_by_the_same_watcher) {
  const auto descriptors = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); };
  run(shell("exec sleep 60"));
  const auto before = descriptors();
  for (int i = 0; i < 3; ++i) {
    workloads->depart("job");
    workloads->stay("job");
  }
  EXPECT_EQ(descriptors(), before);
  workloads->kill("job", SIGKILL);
  run_until_exited();
  EXPECT_EQ(exited.size(), 1u);
}

TEST_F(WorkloadsTest, that_end_while_they_depart_are_reported_when_they_stay) {
  run(shell("exec sleep 60"));
  workloads->depart("job");
  workloads->kill("job", SIGKILL);
  io.run_for(std::chrono::milliseconds(500));
  EXPECT_TRUE(exited.empty());
  workloads->stay("job");
  EXPECT_EQ(exited.size(), 1u);
}

TEST_F(WorkloadsTest, arrive_in_namespaces_that_wait_for_them) {
  Saved saved;
  saved.mutable_info()->set_name("job");
  saved.mutable_info()->set_guest_pid(7);
  saved.set_cgroup("m.1.dst");
  EXPECT_TRUE(build(saved));
  EXPECT_TRUE(workloads->list().empty());
  EXPECT_TRUE(Cgroup::open(root.path() + "/inits")->populated());
  workloads->forget("job", "m.1.dst");
  Cgroup::open(root.path() + "/inits")->wait_empty(std::chrono::seconds(5));
}

TEST_F(WorkloadsTest, that_cannot_be_written_down_are_not_started) {
  ASSERT_EQ(::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=64k"), 0);
  std::string filled;
  try {
    write_file(directory + "/filling", std::string(1 << 20, 'x'));
  } catch (const Error& e) {
    filled = e.message();
  }
  EXPECT_NE(filled, "");
  EXPECT_THROW(run(shell("exec sleep 60")), Error);
  EXPECT_TRUE(workloads->list().empty());
  for (const auto& entry : std::filesystem::directory_iterator(root.path()))
    EXPECT_FALSE(entry.path().filename().string().ends_with(".run")) << entry.path() << " is left";
  ::umount2(directory.c_str(), MNT_DETACH);
}

TEST_F(WorkloadsTest, whose_start_the_agent_did_not_live_to_see_are_ended) {
  const auto info = run(shell("exec sleep 60"));
  Saved saved = *workloads->find("job");
  saved.mutable_info()->set_state("starting");
  saved.clear_init_pid();
  write_file(directory + "/job.workload", saved.SerializeAsString());
  restart();
  EXPECT_TRUE(workloads->list().empty());
  EXPECT_FALSE(std::filesystem::exists(directory + "/job.workload"));
  EXPECT_FALSE(std::filesystem::exists(root.path() + "/" + saved.cgroup()));
  EXPECT_EQ(run(shell("exec sleep 60")).state(), "running");
}

TEST_F(WorkloadsTest, whose_init_takes_its_time_keep_nobody_waiting) {
  restart(init_after("sleep 1"));
  api::WorkloadInfo info;
  bool started = false;
  net::spawn(io.get_executor(), run_into(workloads.get(), shell("exec sleep 60"), &info),
             [&](std::exception_ptr problem) { started = !problem; });
  io.restart();
  Clock::duration longest{};
  bool seen = false;
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (!started && Clock::now() < deadline) {
    const auto before = Clock::now();
    io.run_one_for(std::chrono::milliseconds(10));
    longest = std::max(longest, Clock::now() - before);
    if (started || std::exchange(seen, true)) continue;
    EXPECT_EQ(state("job"), "starting");
    EXPECT_THROW(run(shell("true")), Error) << "the name is taken";
    EXPECT_THROW(workloads->kill("job", SIGKILL), Error);
  }
  EXPECT_TRUE(started);
  EXPECT_TRUE(seen);
  EXPECT_LT(longest, std::chrono::milliseconds(500));
  EXPECT_EQ(state("job"), "running");
}

TEST_F(WorkloadsTest, whose_init_says_nothing_are_given_up) {
  restart(init_after("exec sleep 60"), std::chrono::milliseconds(300));
  EXPECT_THROW(run(shell("true")), Error);
  Saved saved;
  saved.mutable_info()->set_name("job");
  saved.set_cgroup("m.1.dst");
  EXPECT_THROW(build(saved), Error);
  EXPECT_TRUE(workloads->list().empty());
  Cgroup::open(root.path() + "/inits")->wait_empty(std::chrono::seconds(5));
  restart();
  EXPECT_EQ(run(shell("exec sleep 60")).state(), "running");
}

class WorkloadsBefore : public WorkloadsTest {
 protected:
  WorkloadsBefore() {
    run(shell("exit 3"));
    run_until_exited();
  }
  void expect_listed() {
    for (int life = 0; life < 2; ++life) {
      ASSERT_EQ(workloads->list().size(), 1u) << life;
      EXPECT_EQ(state("job"), "exited") << life;
      EXPECT_EQ(workloads->info("job").exit_code(), 3) << life;
      restart();
    }
  }
};

TEST_F(WorkloadsBefore, stay_listed_when_their_name_was_not_used_after_all) {
  api::RunWorkload none = shell("");
  none.set_argv(0, "/nonexistent/program");
  EXPECT_THROW(run(none), Error);
  expect_listed();
}

TEST_F(WorkloadsBefore, stay_listed_when_what_was_to_arrive_does_not) {
  Saved saved;
  saved.mutable_info()->set_name("job");
  saved.mutable_info()->set_guest_pid(7);
  saved.set_cgroup("m.1.dst");
  build(saved);
  EXPECT_EQ(state("job"), "building");
  restart();
  workloads->forget("job", "m.1.dst");
  expect_listed();
}

TEST_F(WorkloadsBefore, stay_listed_when_the_agent_did_not_live_to_see_the_next_one) {
  Saved saved;
  *saved.mutable_before() = *workloads->find("job");
  saved.mutable_info()->set_name("job");
  saved.mutable_info()->set_state("starting");
  saved.set_cgroup("abc.0.run");
  write_file(directory + "/job.workload", saved.SerializeAsString());
  restart();
  expect_listed();
}

TEST_F(WorkloadsBefore, are_forgotten_when_the_next_one_runs) {
  run(shell("exec sleep 60"));
  EXPECT_FALSE(workloads->find("job")->has_before());
  EXPECT_EQ(state("job"), "running");
}

}  // namespace
}  // namespace godwit::workload
