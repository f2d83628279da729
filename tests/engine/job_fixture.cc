#include "tests/engine/job_fixture.h"

#include "common/base/check.h"

#include <csignal>
#include <ctime>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

volatile std::sig_atomic_t continued = 0;

}  // namespace

void count() {
  const pid_t pid = ::getpid();
  ::signal(SIGCONT, [](int) { continued = 1; });
  for (long i = 0;; i++) {
    timespec nap{0, 20'000'000};
    const bool disturbed = ::nanosleep(&nap, nullptr) != 0;
    char line[64];
    const int n = std::snprintf(line, sizeof line, "%ld%s%s%s\n", i, disturbed ? " bad sleep" : "",
                                continued ? " bad SIGCONT" : "", ::getpid() != pid ? " bad pid" : "");
    if (::write(1, line, static_cast<std::size_t>(n)) != n) ::_exit(1);
  }
}

UniqueFd make_journal() { return UniqueFd(check(::memfd_create("journal", MFD_CLOEXEC), "create a journal")); }

Jobs::Jobs(const std::string& spool, const std::string& destination_fault)
    : source(source_journal_.get(), true),
      destination(destination_journal_.get(), false, destination_fault),
      pump_(source, destination, spool) {}

Event Jobs::ask(JobClient& job, Command command) {
  command.set_id(next_id_++);
  job.post(command);
  return job.await(command.id(), [&] { carry(); });
}

void JobTest::SetUp() {
  ASSERT_EQ(::geteuid(), 0u) << "needs root";
  pid_ = home_.run(dir_.path("out"), [this] { be_target(); });
  ASSERT_TRUE(goes_on());
  ::mkdir(spool_.c_str(), 0700);
}

bool JobTest::goes_on() {
  const std::size_t before = lines_in(dir_.path("out"));
  return wait_for([&] { return lines_in(dir_.path("out")) > before + 2; });
}

void JobTest::expect_undisturbed() {
  EXPECT_TRUE(goes_on()) << contents(fmt::format("/proc/{}/status", pid_));
  EXPECT_EQ(contents(dir_.path("out")).find("bad"), std::string::npos) << contents(dir_.path("out"));
  EXPECT_NE(state_of(pid_), 'T');
  EXPECT_NE(contents(fmt::format("/proc/{}/status", pid_)).find("TracerPid:\t0"), std::string::npos);
  EXPECT_EQ(contents(fmt::format("/proc/{}/maps", pid_)).find("rwxp"), std::string::npos) << "scratch memory is left";
}

Event JobTest::survey(JobClient& job) {
  Command c;
  c.mutable_survey()->set_pid(pid_);
  return job.ask(c);
}

Command JobTest::round(std::uint32_t number) {
  Command c;
  c.mutable_round()->set_number(number);
  return c;
}

Command JobTest::freeze(std::uint32_t number, const TestCgroup& cgroup) {
  Command c;
  c.mutable_freeze()->set_number(number);
  c.mutable_freeze()->set_cgroup(cgroup.path());
  c.mutable_freeze()->set_child_patience_ms(500);
  return c;
}

Event JobTest::prepare(JobClient& job, const TestCgroup& cgroup, int init) {
  Command c;
  c.mutable_prepare()->set_cgroup(cgroup.path());
  c.mutable_prepare()->set_has_init(true);
  const UniqueFd spool = open_file(spool_, O_RDONLY | O_DIRECTORY);
  const UniqueFd directory = open_file(cgroup.path(), O_RDONLY | O_DIRECTORY);
  return job.ask(c, {spool.get(), init, directory.get()});
}

void JobTest::begin(Jobs& jobs) {
  const Event surveyed = survey(jobs.source);
  ASSERT_TRUE(surveyed.has_surveyed()) << surveyed.failure().message();
  ASSERT_EQ(surveyed.surveyed().refusals_size(), 0) << surveyed.surveyed().refusals(0).what();
  ASSERT_TRUE(prepare(jobs.destination, destination_cgroup_, away_.init()).has_done());
}

Event JobTest::finish(Jobs& jobs, const Event& frozen) {
  jobs.carry();
  Command c;
  c.mutable_finish()->set_sequence(frozen.frozen().round().last_sequence());
  return jobs.ask(jobs.destination, c);
}

void JobTest::expect_arrival(Jobs& jobs, const Event& frozen) {
  ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
  const Event prepared = finish(jobs, frozen);
  ASSERT_TRUE(prepared.has_prepared()) << prepared.failure().message();
  EXPECT_EQ(jobs.destination.wait_end(), 0);
  EXPECT_TRUE(source_cgroup_.frozen() && destination_cgroup_.frozen());
  write_file(source_cgroup_.path() + "/cgroup.kill", "1");
  EXPECT_TRUE(wait_for([&] { return !process_is_there(pid_); }));
  destination_cgroup_.thaw();
  pid_ = prepared.prepared().tasks(0).pid();
}

void JobTest::move(const std::function<void(int round)>& between) {
  Jobs jobs(spool_);
  begin(jobs);
  for (std::uint32_t n = 0; n < 3; n++) {
    const Event done = jobs.ask(jobs.source, round(n));
    ASSERT_TRUE(done.has_round_done()) << done.failure().message();
    jobs.carry();
    between(static_cast<int>(n));
  }
  expect_arrival(jobs, jobs.ask(jobs.source, freeze(3, source_cgroup_)));
}

}  // namespace godwit::engine::test
