// Requests of native AIO that are in flight while rounds are made of a running process.
#include "tests/engine/job_fixture.h"

#include "common/base/check.h"
#include "common/base/units.h"
#include "tests/support/aio_request.h"
#include "tests/support/cpu_set.h"

#include <cstring>
#include <optional>
#include <thread>

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

constexpr std::size_t filled = 16 << 20;

// A target that has a ring, in which a request is in flight until the file `drain` is there. No descriptor of it reads
// with O_DIRECT.
class AioRounds : public JobTest {
  void be_target() override {
    void* const memory = ::mmap(nullptr, filled, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(memory, 1, filled);
    aio_context_t context = 0;
    const int empty = ::eventfd(0, EFD_NONBLOCK);
    if (::syscall(SYS_io_setup, 10, &context) == 0) submit_aio(context, IOCB_CMD_POLL, empty, 1);
    std::thread([this, empty] {
      while (::access(dir_.path("drain").c_str(), F_OK) != 0) ::usleep(2000);
      ::eventfd_write(empty, 1);
      write_file(dir_.path("drained"), "", 0644);
    }).detach();
    count();
  }

 protected:
  void SetUp() override {
    aio_context_t context = 0;
    if (::syscall(SYS_io_setup, 10, &context) != 0)
      GTEST_SKIP() << "this machine has no native AIO, or no room for more of it";
    ::syscall(SYS_io_destroy, context);
    JobTest::SetUp();
    source_.emplace(journal_.get(), true);
  }

  void begin() { ASSERT_TRUE(survey(*source_).has_surveyed()); }
  Event make_round(std::uint32_t number) {
    Command c = round(number);
    c.set_id(1000 + number);
    source_->post(c);
    return source_->await(c.id(), [&] {
      while (source_->ring().front()) source_->ring().release();
    });
  }

  UniqueFd journal_ = make_journal();
  std::optional<JobClient> source_;
};

TEST_F(AioRounds, send_everything_again_as_long_as_a_request_is_in_flight) {
  begin();
  for (std::uint32_t number = 0; number < 2; number++) {
    const Event done = make_round(number);
    ASSERT_TRUE(done.has_round_done()) << done.failure().message();
    EXPECT_GE(done.round_done().pages(), filled / page_size) << "in round " << number;
  }
  write_file(dir_.path("drain"), "", 0644);
  ASSERT_TRUE(wait_for([&] { return ::access(dir_.path("drained").c_str(), F_OK) == 0; }));
  ASSERT_TRUE(make_round(2).has_round_done());
  const Event done = make_round(3);
  ASSERT_TRUE(done.has_round_done()) << done.failure().message();
  EXPECT_LT(done.round_done().pages(), filled / page_size);
  expect_undisturbed();
}

TEST_F(AioRounds, end_when_requests_are_in_flight_for_long) {
  begin();
  const auto begun = Clock::now();
  std::uint32_t rounds = 0;
  Event refused;
  while (!refused.has_failure() && Clock::now() - begun < std::chrono::seconds(60)) {
    refused = make_round(rounds++);
    ::usleep(200'000);
  }
  EXPECT_GE(Clock::now() - begun, std::chrono::seconds(10));
  EXPECT_GT(rounds, 2u);
  ASSERT_TRUE(refused.has_failure());
  EXPECT_EQ(refused.failure().code(), "busy");
  EXPECT_NE(refused.failure().message().find("requests are in flight"), std::string::npos)
      << refused.failure().message();
  expect_undisturbed();
}

TEST_F(AioRounds, end_at_once_where_nobody_can_tell_whether_requests_are_in_flight) {
  const CpuSet set;
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2 || !set.take(pid_)) GTEST_SKIP() << "there is no second CPU, or no cpuset";
  begin();
  const Event refused = make_round(0);
  ASSERT_TRUE(refused.has_failure());
  EXPECT_EQ(refused.failure().code(), "unsupported");
  EXPECT_NE(refused.failure().message().find("cpuset"), std::string::npos) << refused.failure().message();
  expect_undisturbed();
}

}  // namespace
}  // namespace godwit::engine::test
