#include "common/base/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <stdexcept>

#include <pthread.h>
#include <sched.h>

namespace godwit {
namespace {

TEST(Worker, does_what_it_is_given_in_that_order) {
  std::vector<int> done;
  std::future<int> last;
  {
    Worker worker;
    for (int i = 0; i < 100; i++) last = worker.run([&done, i] { return done.emplace_back(i); });
  }
  EXPECT_EQ(last.get(), 99);
  ASSERT_EQ(done.size(), 100u);
  for (int i = 0; i < 100; i++) EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
}

TEST(Worker, hands_on_what_was_thrown_and_goes_on) {
  Worker worker;
  auto failed = worker.run([] { throw std::runtime_error("no"); });
  EXPECT_THROW(failed.get(), std::runtime_error);
  EXPECT_EQ(worker.run([] { return 1; }).get(), 1);
}

TEST(Worker, takes_no_signals) {
  Worker worker;
  EXPECT_TRUE(worker
                  .run([] {
                    sigset_t blocked;
                    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
                    return sigismember(&blocked, SIGTERM) == 1;
                  })
                  .get());
}

TEST(Worker, may_run_where_its_maker_might_before_it_was_pinned) {
  cpu_set_t before, one, found;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  Worker worker;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(::sched_getcpu()), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  worker.run([&found] { ::sched_getaffinity(0, sizeof found, &found); }).get();
  EXPECT_TRUE(CPU_EQUAL(&found, &before));
  EXPECT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

}  // namespace
}  // namespace godwit
