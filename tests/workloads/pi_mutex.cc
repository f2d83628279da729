// Checks: a priority-inheriting mutex held by one thread, with a waiter in FUTEX_LOCK_PI.

#include "tests/workloads/blocked_call.h"

#include <pthread.h>
#include <thread>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  pthread_mutex_t mutex;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init(&mutex, &attributes);

  pthread_mutex_lock(&mutex);
  BlockedCall waiter("pthread_mutex_lock", [&] {
    const int locked = pthread_mutex_lock(&mutex);
    const int unlocked = pthread_mutex_unlock(&mutex);
    return -static_cast<long>(locked != 0 ? locked : unlocked);
  });
  waiter.settle();

  w.ready();
  w.wait_for_verify();
  waiter.still_blocked(w);
  const int unlocked = pthread_mutex_unlock(&mutex);
  w.check(unlocked == 0, "pthread_mutex_unlock by the owner: %s", strerrorname_np(unlocked));
  w.check(w.wait_until([&] { return waiter.returned(); }), "the mutex was not handed on");
  if (waiter.returned())
    w.check(waiter.result() == 0, "the waiter's pthread_mutex_lock returned %ld", -waiter.result());
  return w.finish();
}
