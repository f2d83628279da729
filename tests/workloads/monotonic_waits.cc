// Checks: waits until a time of the monotonic clock (sleep, futex, condition variable), which only end rightly where
// that clock goes on as before.

#include "tests/workloads/blocked_call.h"

#include <ctime>
#include <linux/futex.h>
#include <list>
#include <pthread.h>
#include <sys/syscall.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;

timespec in_a_while() {
  timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  at.tv_sec += seconds;
  return at;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::uint32_t word = 0;
  BlockedCall sleep("clock_nanosleep until a monotonic time", [] {
    const timespec end = in_a_while();
    return -static_cast<long>(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr));
  });
  BlockedCall futex("FUTEX_WAIT_BITSET until a monotonic time", [&] {
    const timespec end = in_a_while();
    return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &end, nullptr, FUTEX_BITSET_MATCH_ANY);
  });
  BlockedCall condition("pthread_cond_clockwait", [] {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    const timespec end = in_a_while();
    pthread_mutex_lock(&mutex);
    errno = pthread_cond_clockwait(&never, &mutex, CLOCK_MONOTONIC, &end);
    return -1L;
  });
  for (const BlockedCall* call : {&sleep, &futex, &condition}) call->settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  if (sleep.comes_back(w, 0, seconds + 5)) sleep.took(w, seconds);
  for (const BlockedCall* call : {&futex, &condition}) {
    if (call->comes_back(w, -ETIMEDOUT, seconds + 5)) call->took(w, seconds);
  }
  return w.finish();
}
