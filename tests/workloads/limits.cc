// Checks: all resource limits, soft and hard, that they are in force, and a descriptor above the limit that came later.

#include "tests/workloads/workload.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Wanted {
  __rlimit_resource_t resource;
  rlim_t soft, hard;
};

constexpr rlim_t mib = 1024 * 1024;
constexpr Wanted wanted[] = {{RLIMIT_NOFILE, 300, 400},
                             {RLIMIT_CORE, 0, 7 * mib},
                             {RLIMIT_STACK, 4 * mib, 16 * mib},
                             {RLIMIT_AS, 65536 * mib, RLIM_INFINITY},
                             {RLIMIT_DATA, 32768 * mib, 40000 * mib},
                             {RLIMIT_FSIZE, 512 * mib, 1024 * mib},
                             {RLIMIT_NPROC, 2000, 3000},
                             {RLIMIT_SIGPENDING, 100, 200},
                             {RLIMIT_MSGQUEUE, 1000, 2000},
                             {RLIMIT_MEMLOCK, mib, 2 * mib},
                             {RLIMIT_CPU, 3600, 7200},
                             {RLIMIT_LOCKS, 50, 60},
                             {RLIMIT_RTTIME, 100'000, 200'000},
                             {RLIMIT_RTPRIO, 0, 0},
                             {RLIMIT_RSS, 100 * mib, 200 * mib}};

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int null = must(open("/dev/null", O_RDWR | O_CLOEXEC), "open");
  const int beyond = must(fcntl(null, F_DUPFD_CLOEXEC, 350), "F_DUPFD");
  for (const Wanted& want : wanted) {
    rlimit limit;
    getrlimit(want.resource, &limit);
    // Only downwards: raising a hard limit needs a capability.
    limit.rlim_max = std::min(limit.rlim_max, want.hard);
    limit.rlim_cur = std::min(limit.rlim_max, want.soft);
    must(setrlimit(want.resource, &limit), "setrlimit");
  }
  rlimit before[RLIM_NLIMITS];
  for (int i = 0; i < RLIM_NLIMITS; ++i) getrlimit(static_cast<__rlimit_resource_t>(i), &before[i]);

  w.ready();
  w.wait_for_verify();
  for (int i = 0; i < RLIM_NLIMITS; ++i) {
    rlimit now;
    getrlimit(static_cast<__rlimit_resource_t>(i), &now);
    w.check(now.rlim_cur == before[i].rlim_cur && now.rlim_max == before[i].rlim_max,
            "limit %d is %lu of %lu, was %lu of %lu", i, now.rlim_cur, now.rlim_max, before[i].rlim_cur,
            before[i].rlim_max);
  }
  w.check(fcntl(null, F_DUPFD_CLOEXEC, 299) == 299, "descriptor 299 cannot be made: %m");
  w.check(fcntl(null, F_DUPFD_CLOEXEC, 299) == -1 && errno == EMFILE, "the limit of descriptors is not in force: %m");
  w.check(fcntl(beyond, F_GETFD) == FD_CLOEXEC, "the descriptor above the limit is gone: %m");
  return w.finish();
}
