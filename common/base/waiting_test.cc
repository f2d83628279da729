#include "common/base/waiting.h"

#include "common/base/fd.h"

#include <gtest/gtest.h>

#include <csignal>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit {
namespace {

using namespace std::chrono_literals;

template <class Child>
pid_t start(Child child) {
  const pid_t pid = check(::fork(), "fork");
  if (pid == 0) child();
  return pid;
}

// A signal with a handler every few milliseconds, in the thread that waits.
class Interruptions {
 public:
  Interruptions() {
    struct sigaction action{};
    action.sa_handler = [](int) {};  // without SA_RESTART
    ::sigaction(SIGALRM, &action, &before_);
    const itimerval often{.it_interval = {0, 2000}, .it_value = {0, 2000}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
  }
  ~Interruptions() {
    const itimerval never{};
    ::setitimer(ITIMER_REAL, &never, nullptr);
    ::sigaction(SIGALRM, &before_, nullptr);
  }

 private:
  struct sigaction before_{};
};

TEST(Waiting, a_child_has_ended_when_it_has_been_waited_for) {
  const Interruptions interruptions;
  EXPECT_EQ(shell_status(wait_for_child(start([] {
              ::usleep(20'000);
              ::_exit(7);
            }))),
            7);
  EXPECT_EQ(shell_status(wait_for_child(start([] {
              ::raise(SIGKILL);
              ::_exit(0);
            }))),
            128 + SIGKILL);
}

TEST(Waiting, who_is_no_child_is_not_waited_for) { EXPECT_THROW(wait_for_child(1), Error); }

TEST(Waiting, a_descriptor_is_ready_or_the_time_is_over) {
  const Interruptions interruptions;
  auto [reading, writing] = make_pipe();
  const auto began = Clock::now();
  try {
    wait_ready(reading.get(), POLLIN, began + 20ms, "hear something");
    ADD_FAILURE() << "there is nothing to be read";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out);
    EXPECT_EQ(e.message(), "hear something: nothing happened in time");
  }
  EXPECT_GE(Clock::now() - began, 20ms);
  write_all(writing.get(), "x");
  wait_ready(reading.get(), POLLIN, Clock::now() - 1s, "hear something");
  std::byte one{};
  read_exact(reading.get(), std::span(&one, 1));
  writing.reset();
  wait_ready(reading.get(), POLLIN, Clock::now() + 10s, "hear of the end");
}

}  // namespace
}  // namespace godwit
