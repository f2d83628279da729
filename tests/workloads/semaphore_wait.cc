// Checks: semop and semtimedop of System V, with and without timeout or undo: no EINTR, the right length, and each
// takes what is given to it once.

#include "tests/workloads/blocked_call.h"
#include "tests/workloads/system_v.h"

#include <list>
#include <sys/sem.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;

enum Semaphore : unsigned short { plain, undone, full, patient, silent, semaphores };

sembuf take(Semaphore number, short flags = 0) { return {number, -1, flags}; }

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int set = must(semget(IPC_PRIVATE, semaphores, IPC_CREAT | 0600), "semget");
  w.tell("objects", object("sem", set));
  by_another([set] { must(semctl(set, full, SETVAL, 1), "SETVAL"); });

  std::list<BlockedCall> endless;
  endless.emplace_back("semop", [set] {
    sembuf operation = take(plain);
    return semop(set, &operation, 1);
  });
  endless.emplace_back("semop with SEM_UNDO", [set] {
    sembuf operation = take(undone, SEM_UNDO);
    return semop(set, &operation, 1);
  });
  endless.emplace_back("semop for zero", [set] {
    sembuf operation{full, 0, 0};
    return semop(set, &operation, 1);
  });
  endless.emplace_back("semtimedop with a very long timeout", [set] {
    sembuf operation = take(patient);
    const timespec timeout{3600, 0};
    return semtimedop(set, &operation, 1, &timeout);
  });
  BlockedCall timed("semtimedop with a timeout", [set] {
    sembuf operation = take(silent);
    const timespec timeout{seconds, 0};
    return semtimedop(set, &operation, 1, &timeout);
  });
  for (const BlockedCall& call : endless) call.settle();
  timed.settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall& call : endless) call.still_blocked(w);
  sembuf post[] = {{plain, 1, 0}, {undone, 1, 0}, take(full, IPC_NOWAIT), {patient, 1, 0}};
  w.check(semop(set, post, std::size(post)) == 0, "semop: %m");
  for (const BlockedCall& call : endless) call.comes_back(w, 0);
  for (const Semaphore number : {plain, undone, full, patient}) {
    const int left = semctl(set, number, GETVAL);
    w.check(left == 0, "semaphore %d is %d and not 0", number, left);
  }
  if (timed.comes_back(w, -EAGAIN, seconds + 5)) timed.took(w, seconds);
  w.check(semctl(set, 0, IPC_RMID) == 0, "IPC_RMID: %m");
  return w.finish();
}
