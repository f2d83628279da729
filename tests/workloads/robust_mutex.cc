// Checks: a robust mutex held by a thread (its robust list is kept) and a waiter on it: the lock comes to the waiter
// with EOWNERDEAD when the holder ends, and not before.

#include "tests/workloads/blocked_call.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <thread>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  pthread_mutex_t mutex;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex, &attributes);

  std::atomic<bool> held = false;
  std::atomic<bool> stop = false;
  std::thread holder([&] {
    void* list_before = nullptr;
    void* list_after = nullptr;
    std::size_t size = 0;
    syscall(SYS_get_robust_list, 0, &list_before, &size);
    pthread_mutex_lock(&mutex);
    held = true;
    while (!stop) pause_for(0.005);
    syscall(SYS_get_robust_list, 0, &list_after, &size);
    w.check(list_before == list_after, "the robust list was at %p and is at %p", list_before, list_after);
  });
  while (!held) pause_for(0.001);
  BlockedCall waiter("pthread_mutex_lock", [&] { return -static_cast<long>(pthread_mutex_lock(&mutex)); });
  waiter.settle();

  w.ready();
  w.wait_for_verify();
  waiter.still_blocked(w);
  stop = true;
  holder.join();
  w.check(w.wait_until([&] { return waiter.returned(); }), "the dead holder's mutex was not handed on");
  if (waiter.returned()) w.check(waiter.result() == -EOWNERDEAD, "pthread_mutex_lock returned %ld", -waiter.result());
  return w.finish();
}
