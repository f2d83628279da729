// Checks: futex waits with relative and absolute timeouts end with ETIMEDOUT, at the right time.

#include "tests/workloads/blocked_call.h"

#include <ctime>
#include <linux/futex.h>
#include <list>
#include <sys/syscall.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;  // a wait that starts anew would be caught by its length

timespec in_a_while() {
  timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  at.tv_sec += seconds;
  return at;
}

long wait_relative(std::uint32_t* word) {
  const timespec timeout{seconds, 0};
  return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, &timeout, nullptr, 0);
}

long wait_absolute(std::uint32_t* word) {
  const timespec timeout = in_a_while();
  return syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &timeout, nullptr,
                 FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::uint32_t word = 0;
  std::list<BlockedCall> calls;
  calls.emplace_back("FUTEX_WAIT with a relative timeout", [&] { return wait_relative(&word); });
  calls.emplace_back("FUTEX_WAIT_BITSET until a real time", [&] { return wait_absolute(&word); });
  calls.emplace_back("pthread_cond_timedwait", [&] {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    const timespec end = in_a_while();
    pthread_mutex_lock(&mutex);
    errno = pthread_cond_timedwait(&never, &mutex, &end);
    return -1L;
  });
  for (const BlockedCall& call : calls) call.settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall& call : calls) {
    if (call.comes_back(w, -ETIMEDOUT, seconds + 5)) call.took(w, seconds);
  }
  return w.finish();
}
