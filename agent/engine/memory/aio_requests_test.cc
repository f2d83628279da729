#include "agent/engine/memory/aio_requests.h"

#include "agent/engine/memory/aio_ring.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"
#include "tests/support/aio_request.h"
#include "tests/support/cpu_set.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr unsigned requests = 10'000;  // a look at the ring takes milliseconds
constexpr std::uint64_t unfetched = 700;

enum class InFlight { none, poll };

// A process with a ring in the middle of which are completed requests that it has not fetched. It looks at them, and at
// the ring, when it is asked to, and ends with 0 if all is as it was.
class Target {
 public:
  explicit Target(InFlight in_flight) : in_flight_(in_flight) {
    auto [from_target, to_parent] = make_pipe();
    auto [from_parent, to_target] = make_pipe();
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) {
      to_target.reset();
      ::_exit(run(to_parent.get(), from_parent.get()));
    }
    to_parent.reset();
    ask_ = std::move(to_target);
    read_exact(from_target.get(), std::as_writable_bytes(std::span(&ring_, 1)));
  }
  ~Target() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  pid_t pid() const { return pid_; }
  std::uint64_t ring() const { return ring_; }  // 0: there can be none here
  std::vector<int> fds() const { return proc::Reader(pid_).fds(); }

  int verify() {
    ask_.reset();
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
  }

 private:
  int run(int to_parent, int from_parent) {
    const int empty = ::eventfd(0, EFD_NONBLOCK);
    if (::syscall(SYS_io_setup, requests, &ring_) != 0) ring_ = 0;
    std::vector<io_event> events(unfetched + 1);
    for (std::uint64_t i = 0; ring_ && i < unfetched + 5; i++) {
      if (!submit_aio(ring_, IOCB_CMD_PREAD, empty, i)) return 2;
      if (i < 5 && ::syscall(SYS_io_getevents, ring_, 1, 1, events.data(), nullptr) != 1) return 3;
    }
    if (ring_ && in_flight_ == InFlight::poll && !submit_aio(ring_, IOCB_CMD_POLL, empty, 1'000'000)) return 4;
    if (::write(to_parent, &ring_, sizeof ring_) != sizeof ring_) return 5;
    char c = 0;
    while (::read(from_parent, &c, 1) == 1) {
    }
    const AioRing& ring = *reinterpret_cast<const AioRing*>(ring_);
    if (ring.head != 5 || ring.tail != 5 + unfetched) return 6;
    timespec none{};
    const long fetched = ::syscall(SYS_io_getevents, ring_, 0, events.size(), events.data(), &none);
    if (fetched != static_cast<long>(unfetched)) return 7;
    for (std::uint64_t i = 0; i < unfetched; i++)
      if (events[i].data != i + 5) return 8;
    return 0;
  }

  InFlight in_flight_;
  pid_t pid_ = 0;
  aio_context_t ring_ = 0;
  UniqueFd ask_;
};

// Sends SIGSTOP when the first event of the engine's is in the ring.
class Disturber {
 public:
  explicit Disturber(const Target& target)
      : thread_([this, pid = target.pid(), ring = target.ring()] {
          const UniqueFd memory = open_file(fmt::format("/proc/{}/mem", pid), O_RDONLY);
          const std::uint32_t tail = read_aio_ring(memory.get(), ring).tail;
          ready_ = true;
          while (!over_ && read_aio_ring(memory.get(), ring).tail == tail) {
          }
          if (!over_) ::kill(pid, SIGSTOP);
        }) {
    while (!ready_) ::usleep(100);
  }
  ~Disturber() {
    over_ = true;
    thread_.join();
  }
  Disturber(const Disturber&) = delete;
  Disturber& operator=(const Disturber&) = delete;

 private:
  std::atomic<bool> ready_ = false, over_ = false;
  std::thread thread_;
};

class AioRequests : public ::testing::TestWithParam<InFlight> {};

TEST_P(AioRequests, are_looked_for_without_a_trace) {
  Target target(GetParam());
  if (target.ring() == 0) GTEST_SKIP() << "this machine has no native AIO, or no room for more of it";
  const std::vector<int> fds = target.fds();
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  {
    Hold hold(target.pid(), journal, calls);
    EXPECT_EQ(find_aio_requests(hold).has_value(), GetParam() == InFlight::poll);
  }
  EXPECT_EQ(target.fds(), fds);
  EXPECT_EQ(target.verify(), 0);
}

TEST_P(AioRequests, are_looked_for_without_a_trace_while_somebody_else_sends_sigstop) {
  bool disturbed = false;
  for (int i = 0; i < 20 && !disturbed; i++) {
    Target target(GetParam());
    if (target.ring() == 0) GTEST_SKIP() << "this machine has no native AIO, or no room for more of it";
    const std::vector<int> fds = target.fds();
    Journal journal{UniqueFd()};
    InterruptedCalls calls;
    {
      const Disturber disturber(target);  // does not outlive the target
      Hold hold(target.pid(), journal, calls);
      try {
        find_aio_requests(hold);
      } catch (const Error& e) {
        EXPECT_EQ(e.errc(), Errc::busy) << e.message();
        EXPECT_NE(e.message().find("SIGSTOP"), std::string::npos) << e.message();
        disturbed = true;
      }
    }
    ::kill(target.pid(), SIGCONT);
    EXPECT_EQ(target.fds(), fds);
    EXPECT_EQ(target.verify(), 0);
  }
  EXPECT_TRUE(disturbed) << "it never came in the middle";
}

TEST(AioRequestsInACpuset, are_refused_where_nobody_can_tell_whether_there_are_any) {
  const CpuSet set;
  cpu_set_t before, last;
  check(::sched_getaffinity(0, sizeof before, &before), "read the affinity");
  CPU_ZERO(&last);
  CPU_SET(1, &last);
  if (::sched_setaffinity(0, sizeof last, &last) != 0) GTEST_SKIP() << "there is no second CPU here";
  Target target(InFlight::none);  // some places are set aside for CPU 1
  check(::sched_setaffinity(0, sizeof before, &before), "put the affinity back");
  if (target.ring() == 0 || !set.take(target.pid())) GTEST_SKIP() << "this machine has no native AIO, or no cpusets";
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  {
    Hold hold(target.pid(), journal, calls);
    const std::optional<Error> found = find_aio_requests(hold);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->errc(), Errc::unsupported) << found->message();
    EXPECT_NE(found->message().find("cpuset"), std::string::npos) << found->message();
  }
  EXPECT_EQ(target.verify(), 0);
}

INSTANTIATE_TEST_SUITE_P(Rings, AioRequests, ::testing::Values(InFlight::none, InFlight::poll),
                         [](const auto& info) { return info.param == InFlight::none ? "idle" : "with_a_poll"; });

}  // namespace
}  // namespace godwit::engine
