// What keeps a process from being frozen and may pass by itself: the engine waits, then says what it was.

#include "tests/engine/job_fixture.h"

#include <functional>
#include <thread>

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

class BusyTest : public JobTest {
 protected:
  // In the target: makes what is in the way. What it returns takes it away again, when the target is told to.
  virtual std::function<void()> be_busy() = 0;

  void be_target() override {
    std::thread([this, pass = be_busy()] {
      while (::access(dir_.path("drain").c_str(), F_OK) != 0) ::usleep(2000);
      pass();
    }).detach();
    count();
  }

  void expect_waited_for() {
    UniqueFd journal = make_journal();
    JobClient source(journal.get(), true);
    ASSERT_TRUE(survey(source).has_surveyed());
    Command c = freeze(0, source_cgroup_);
    c.mutable_freeze()->set_child_patience_ms(20'000);
    c.set_id(1000);
    source.post(c);
    const auto begun = Clock::now();
    const Event frozen = source.await(1000, [&] {
      while (source.ring().front()) source.ring().release();
      if (Clock::now() - begun > std::chrono::milliseconds(200)) write_file(dir_.path("drain"), "", 0644);
    });
    ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
    EXPECT_GE(Clock::now() - begun, std::chrono::milliseconds(200));
    Command thaw;
    thaw.mutable_thaw();
    ASSERT_TRUE(source.ask(thaw).has_done());
    expect_undisturbed();
  }

  void expect_refused(const std::string& name) {
    UniqueFd journal = make_journal();
    JobClient source(journal.get(), true);
    ASSERT_TRUE(survey(source).has_surveyed());
    const Event answer = source.ask(freeze(0, source_cgroup_));
    ASSERT_TRUE(answer.has_failure());
    EXPECT_EQ(answer.failure().code(), "busy");
    EXPECT_NE(answer.failure().message().find(name), std::string::npos) << answer.failure().message();
    expect_undisturbed();
  }
};

// Events in an inotify queue that is not read.
class UnreadEvents : public BusyTest {
 protected:
  std::function<void()> be_busy() override {
    const int watch = ::inotify_init1(IN_NONBLOCK);
    ::inotify_add_watch(watch, dir_.path().c_str(), IN_CREATE);
    write_file(dir_.path("event"), "", 0644);
    return [watch] {
      char events[4096];
      while (::read(watch, events, sizeof events) > 0) {
      }
    };
  }
};

TEST_F(UnreadEvents, that_pass_by_themselves_are_waited_for) { expect_waited_for(); }
TEST_F(UnreadEvents, that_do_not_pass_are_refused_by_name) { expect_refused("inotify"); }

// An undo value of a semaphore, which somebody else was the last to use.
class TakenSemaphore : public BusyTest {
 protected:
  ~TakenSemaphore() override { ::semctl(set_, 0, IPC_RMID); }

  std::function<void()> be_busy() override {
    sembuf up{.sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO};
    check(::semop(set_, &up, 1), "raise a semaphore");
    const pid_t other = ::fork();
    up.sem_flg = 0;
    if (other == 0) ::_exit(::semop(set_, &up, 1) == 0 ? 0 : 1);
    ::waitpid(other, nullptr, 0);
    return [this] { ::semctl(set_, 0, IPC_RMID); };
  }

 private:
  const int set_ = check(::semget(IPC_PRIVATE, 1, 0600), "make a semaphore");
};

TEST_F(TakenSemaphore, that_is_given_back_is_waited_for) { expect_waited_for(); }
TEST_F(TakenSemaphore, that_is_kept_is_refused_by_name) { expect_refused("SEM_UNDO"); }

// A segment that is made after the survey.
class LateSegment : public BusyTest {
 protected:
  ~LateSegment() override { ::shmctl(::shmget(key_, 0, 0), IPC_RMID, nullptr); }

  std::function<void()> be_busy() override {
    return [this] {
      ::shmget(key_, 4096, IPC_CREAT | IPC_EXCL | 0600);
      write_file(dir_.path("made"), "", 0644);
    };
  }

  const key_t key_ = 0x67640000 + ::getpid();
};

TEST_F(LateSegment, is_refused_at_the_freeze) {
  UniqueFd journal = make_journal();
  JobClient source(journal.get(), true);
  ASSERT_TRUE(survey(source).has_surveyed());
  write_file(dir_.path("drain"), "", 0644);
  while (::access(dir_.path("made").c_str(), F_OK) != 0) ::usleep(2000);
  const Event answer = source.ask(freeze(0, source_cgroup_));
  ASSERT_TRUE(answer.has_failure());
  EXPECT_EQ(answer.failure().code(), "refused");
  EXPECT_NE(answer.failure().message().find("sysv shared memory"), std::string::npos) << answer.failure().message();
  expect_undisturbed();
}

// More lines on a terminal than can be taken out and typed again.
class UnreadLines : public BusyTest {
 protected:
  std::function<void()> be_busy() override {
    const int master = ::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), off = 0;
    ::ioctl(master, TIOCSPTLCK, &off);
    const int slave = ::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK);
    const std::string line = std::string(99, 'l') + "\n";
    for (int i = 0; i < 25; i++)
      if (::write(master, line.data(), line.size()) != 100) ::_exit(1);
    for (int bytes = 0; bytes < 2500; ::usleep(1000)) ::ioctl(slave, FIONREAD, &bytes);
    return [slave] {
      char line[4096];
      while (::read(slave, line, sizeof line) > 0) {
      }
    };
  }
};

TEST_F(UnreadLines, that_are_read_meanwhile_are_waited_for) { expect_waited_for(); }
TEST_F(UnreadLines, that_nobody_reads_are_refused_by_name) { expect_refused("2500 bytes of lines"); }

}  // namespace
}  // namespace godwit::engine::test
