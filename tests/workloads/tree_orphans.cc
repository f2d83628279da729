// Checks: processes whose parent has exited: they go on as children of their PID namespace's init, in a session of
// their own, in the workload's session, in that of a grandchild of the workload, and in a session whose leader has
// exited; with children of their own.

#include "tests/workloads/children.h"

#include <sys/wait.h>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr int init = 1;

// What one has for the workload: nobody waits for it.
std::string verdict_of(const std::string& name) { return "verdict-" + name; }

void go_on(Workload& w, const std::string& name, std::uint64_t seed) {
  while (getppid() != init) pause_for(0.001);
  char* const memory = map(1 << 18);
  fill(memory, 1 << 18, seed);
  const pid_t pid = getpid(), session = getsid(0), group = getpgid(0);
  const Child below = start_child(w, "below-" + name, 5, [&] {
    settled(w, "below-" + name);
    w.wait_for_verify();
    w.check(getppid() == pid, "the parent was %d and is %d", pid, getppid());
    w.check(getsid(0) == session, "the session was %d and is %d", session, getsid(0));
  });
  await_settled(w, below.name);
  w.tell(("pid-" + name).c_str(), std::to_string(pid) + "\n");
  settled(w, name);
  w.wait_for_verify();
  w.check(getpid() == pid, "the PID was %d and is %d", pid, getpid());
  w.check(getppid() == init, "the parent is %d", getppid());
  w.check(getsid(0) == session, "the session was %d and is %d", session, getsid(0));
  w.check(getpgid(0) == group, "the group was %d and is %d", group, getpgid(0));
  w.check(holds(memory, 1 << 18, seed), "the memory changed");
  check_end(w, below);
  w.tell(verdict_of(name).c_str(), w.failure());
}

// By somebody who is gone when this returns.
void orphan(Workload& w, const std::string& name, std::uint64_t seed, bool leads) {
  const pid_t between = must(fork(), "fork");
  if (between == 0) {
    if (fork() == 0) {
      if (leads) must(setsid(), "setsid");
      go_on(w, name, seed);
    }
    _exit(0);
  }
  must(waitpid(between, nullptr, 0), "waitpid");
  await_settled(w, name);
}

// Two in one session, whose leader is gone.
void orphans_together(Workload& w, const std::string& one, const std::string& other) {
  const pid_t between = must(fork(), "fork");
  if (between == 0) {
    must(setsid(), "setsid");
    if (fork() == 0) go_on(w, one, 0x0f2);
    if (fork() == 0) go_on(w, other, 0x0f4);
    _exit(0);
  }
  must(waitpid(between, nullptr, 0), "waitpid");
  await_settled(w, one);
  await_settled(w, other);
}

// One whose session is that of a living process further below.
Child orphan_of_a_grandchild(Workload& w, const std::string& name, std::uint64_t seed) {
  const Child above = start_child(w, "above-" + name, 6, [&] {
    const Child leader = start_child(w, "leader-of-" + name, 7, [&] {
      must(setsid(), "setsid");
      orphan(w, name, seed, false);
      settled(w, "leader-of-" + name);
      w.wait_for_verify();
      w.check(getsid(0) == getpid(), "its session is %d", getsid(0));
    });
    await_settled(w, leader.name);
    settled(w, "above-" + name);
    w.wait_for_verify();
    check_end(w, leader);
  });
  await_settled(w, above.name);
  return above;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::vector<std::string> names{"leader", "plain", "left", "second-plain", "left-together", "deep"};
  orphan(w, names[0], 0x0f0, true);
  orphan(w, names[1], 0x0f1, false);
  orphans_together(w, names[2], names[4]);
  orphan(w, names[3], 0x0f3, false);

  const Child above = orphan_of_a_grandchild(w, names[5], 0x0f5);

  w.ready();
  w.wait_for_verify();
  for (const std::string& name : names) {
    const std::string verdict = verdict_of(name);
    if (!w.check(w.wait_until([&] { return w.asked(verdict.c_str()); }), "%s does not go on", name.c_str())) continue;
    const std::string complaint = read_file(w.path(verdict));
    w.check(complaint.empty(), "%s: %s", name.c_str(), complaint.c_str());
  }
  check_end(w, above);
  return w.finish();
}
