// Checks: seccomp filters of threads, with errors, SIGSYS and logging, on top of each other: each thread has as many as
// before, in their order, and all are enforced, also in every moment of the move. Threads that had a filter together
// still have it together, so that one of them can add one for all (SECCOMP_FILTER_FLAG_TSYNC). What allowed them to be
// installed, CAP_SYS_ADMIN, is gone, and there is no no_new_privs in its place.

#include "tests/workloads/seccomp.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <list>
#include <sys/prctl.h>
#include <thread>
#include <ucontext.h>

using namespace godwit::workloads;

namespace {

constexpr int first_error = 71, later_error = 72, trapped_error = 73, last_error = 74;
constexpr unsigned trap_data = 5;

thread_local siginfo_t trapped{};

void on_sigsys(int, siginfo_t* info, void* context) {
  trapped = *info;
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -trapped_error;
}

void check_trap(Workload& w, const char* name) {
  trapped = {};
  const int error = error_of(SYS_sched_yield);
  w.check(error == trapped_error && trapped.si_signo == SIGSYS && trapped.si_syscall == SYS_sched_yield &&
              trapped.si_errno == trap_data,
          "%s: the trapped call ended with error %d, its signal told of call %d and data %d", name, error,
          trapped.si_syscall, trapped.si_errno);
}

void check_error(Workload& w, const char* name, long number, int expected) {
  const int error = error_of(number);
  w.check(error == expected, "%s: call %ld ended with error %d instead of %d", name, number, error, expected);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_sigaction = on_sigsys;
  action.sa_flags = SA_SIGINFO;
  must(sigaction(SIGSYS, &action, nullptr), "sigaction");

  must(add_filter(SYS_sched_getscheduler, SECCOMP_RET_ERRNO | first_error), "the first filter");
  const std::string before = seccomp_state();
  std::list<Member> relatives;
  Member trapper("the trapper", [&] {
    must(add_filter(SYS_sched_yield, SECCOMP_RET_TRAP | trap_data), "the second filter");
    relatives.emplace_back("its child", [] {});
  });
  Member logger("the logger", [] {
    must(add_filter(SYS_sched_get_priority_max, SECCOMP_RET_LOG, SECCOMP_FILTER_FLAG_LOG), "a logging filter");
    must(add_filter(SYS_sched_get_priority_min, SECCOMP_RET_ERRNO | later_error), "a filter on top");
    must(add_filter(SYS_sched_getscheduler, SECCOMP_RET_ERRNO | later_error),
         "another answer");  // the later one counts
  });
  std::atomic<bool> ending = false;
  std::atomic<long> calls = 0, passed = 0;
  std::thread storm([&] {
    while (!ending) {
      for (int i = 0; i < 2000; ++i)
        if (++calls; error_of(SYS_sched_getscheduler) != first_error) ++passed;
      pause_for(0.001);
    }
  });
  must(setresuid(2001, 2001, 2001), "setresuid");

  w.ready();
  w.wait_for_verify();
  const std::string now = seccomp_state();
  w.check(now == before, "the first thread had %s and has %s", before.c_str(), now.c_str());
  w.check(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0, "no_new_privs is set");
  check_error(w, "the first thread", SYS_sched_getscheduler, first_error);
  check_error(w, "the first thread", SYS_sched_yield, 0);
  trapper.verify(w, [&] {
    check_error(w, "the trapper", SYS_sched_getscheduler, first_error);
    check_trap(w, "the trapper");
  });
  relatives.front().verify(w, [&] { check_trap(w, "its child"); });
  logger.verify(w, [&] {
    check_error(w, "the logger", SYS_sched_get_priority_max, 0);
    check_error(w, "the logger", SYS_sched_get_priority_min, later_error);
    check_error(w, "the logger", SYS_sched_getscheduler, later_error);
  });
  w.check(passed == 0, "of %ld calls %ld were let through", calls.load(), passed.load());

  // It has a filter that the others do not have, so it must be gone before.
  logger.end();
  trapper.run([&] {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const long other = add_filter(SYS_getpriority, SECCOMP_RET_ERRNO | last_error, SECCOMP_FILTER_FLAG_TSYNC);
    w.check(other == 0, "one filter for all: %ld (%s)", other,
            other > 0 ? "a thread's filters are others" : strerror(errno));
  });
  check_error(w, "the first thread", SYS_getpriority, last_error);
  check_trap(w, "the first thread");
  const std::string all = seccomp_state();
  w.check(all == "mode 2, 3 filters", "the first thread has %s then", all.c_str());
  ending = true;
  storm.join();
  trapper.end();
  relatives.front().end();
  return w.finish();
}
