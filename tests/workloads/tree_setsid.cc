// Checks: a process that goes into a session of its own during pre-copy: its child, which stays in the old one, is its
// child still.

#include "tests/workloads/children.h"

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t size = 256 << 10;
  const pid_t session = getsid(0);
  const Child leaver = start_child(w, "leaver", 21, [&] {
    const pid_t self = getpid();
    char* const memory = map(size);
    fill(memory, size, 21);
    const Child below = start_child(w, "below", 22, [&] {
      char* const own = map(size);
      fill(own, size, 22);
      settled(w, "below");
      w.wait_for_verify();
      w.check(getsid(0) == session, "the session was %d and is %d", session, getsid(0));
      w.check(getppid() == self, "the parent was %d and is %d", self, getppid());
      w.check(holds(own, size, 22), "the memory changed");
    });
    await_settled(w, "below");
    settled(w, "leaver");
    await(w, "leave");
    must(setsid(), "setsid");
    w.tell("leave.done", "");
    w.wait_for_verify();
    w.check(getsid(0) == self, "the session is %d, not %d", getsid(0), self);
    w.check(holds(memory, size, 21), "the memory changed");
    check_end(w, below);
  });
  await_settled(w, "leaver");
  w.ready();
  w.wait_for_verify();
  check_end(w, leaver);
  return w.finish();
}
