// Checks: seccomp filters that all threads of a process have in common, by birth and by SECCOMP_FILTER_FLAG_TSYNC: each
// thread has all of them, and any of them can still add one for all.

#include "tests/workloads/seccomp.h"

#include <cerrno>
#include <cstring>
#include <list>

using namespace godwit::workloads;

namespace {

constexpr int threads = 3;
constexpr int inherited_error = 71, spread_error = 72, last_error = 73;

void add_for_all(Workload& w, const char* name, long result) {
  w.check(result == 0, "%s cannot add a filter for all: %ld (%s)", name, result,
          result > 0 ? "a thread's filters are others" : strerror(errno));
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  must(add_filter(SYS_sched_getscheduler, SECCOMP_RET_ERRNO | inherited_error, SECCOMP_FILTER_FLAG_LOG), "a filter");
  std::list<Member> members;
  for (int i = 0; i < threads; ++i) members.emplace_back("a thread", [] {});
  add_for_all(w, "the first thread",
              add_filter(SYS_sched_yield, SECCOMP_RET_ERRNO | spread_error, SECCOMP_FILTER_FLAG_TSYNC));
  const std::string before = seccomp_state();

  w.ready();
  w.wait_for_verify();
  const auto check_all = [&](const std::string& state, int last) {
    const std::string first = seccomp_state();
    w.check(first == state, "the first thread had %s and has %s", state.c_str(), first.c_str());
    for (Member& m : members)
      m.run([&] {
        const std::string now = seccomp_state();
        w.check(now == state, "a thread had %s and has %s", state.c_str(), now.c_str());
        const int errors[] = {error_of(SYS_sched_getscheduler), error_of(SYS_sched_yield), error_of(SYS_getpriority)};
        w.check(errors[0] == inherited_error && errors[1] == spread_error && errors[2] == last,
                "a thread's calls ended with errors %d, %d, %d", errors[0], errors[1], errors[2]);
      });
  };
  check_all(before, 0);
  members.back().run([&] {
    add_for_all(w, "a thread", add_filter(SYS_getpriority, SECCOMP_RET_ERRNO | last_error, SECCOMP_FILTER_FLAG_TSYNC));
  });
  check_all("mode 2, 3 filters", last_error);
  for (Member& m : members) m.end();
  return w.finish();
}
