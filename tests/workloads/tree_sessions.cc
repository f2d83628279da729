// Checks: sessions and process groups in a tree: leaders of them, members of others' groups, a group whose leader has
// exited, children born before and after their parent led a session. A signal to a group reaches its members only.

#include "tests/workloads/children.h"

#include <cerrno>
#include <csignal>
#include <functional>
#include <sys/wait.h>
#include <vector>

using namespace godwit::workloads;

namespace {

volatile sig_atomic_t got_signals[2];

// A member of the tree that checks where it belongs and what reaches it.
struct Place {
  pid_t session, group;  // 0: its own; -1: the one that it was born into
  int first, second;     // how many SIGUSR1 and SIGUSR2 it gets after the move
};

void be_member(Workload& w, const std::string& name, Place place, const std::function<std::vector<Child>()>& children) {
  struct sigaction action{};
  action.sa_handler = [](int signal) { got_signals[signal == SIGUSR2] = got_signals[signal == SIGUSR2] + 1; };
  for (const int signal : {SIGUSR1, SIGUSR2}) must(sigaction(signal, &action, nullptr), "sigaction");
  w.expect_interrupts();
  if (place.session == 0) must(setsid(), "setsid");
  if (place.group >= 0 && place.session != 0) must(setpgid(0, place.group), "setpgid");
  const pid_t session = getsid(0), group = getpgid(0), parent = getppid();
  const std::vector<Child> below = children ? children() : std::vector<Child>{};
  w.tell(("pid-" + name).c_str(), std::to_string(getpid()));
  settled(w, name);

  w.wait_for_verify();
  w.check(getsid(0) == session, "the session was %d and is %d", session, getsid(0));
  w.check(getpgid(0) == group, "the group was %d and is %d", group, getpgid(0));
  w.check(getppid() == parent, "the parent was %d and is %d", parent, getppid());
  await(w, "signals-sent");  // each has been there when its sender's call returned
  w.check(got_signals[0] == place.first && got_signals[1] == place.second, "%d SIGUSR1 and %d SIGUSR2, not %d and %d",
          int{got_signals[0]}, int{got_signals[1]}, place.first, place.second);
  for (const Child& child : below) check_end(w, child);
}

Child member(Workload& w, const std::string& name, int code, Place place,
             const std::function<std::vector<Child>()>& children = {}) {
  const Child child = start_child(w, name, code, [&] { be_member(w, name, place, children); });
  await_settled(w, name);
  return child;
}

// The first of a group, which ends as soon as the others have joined it.
pid_t start_group() {
  const pid_t leader = must(fork(), "fork");
  if (leader == 0) {
    for (;;) pause();
  }
  must(setpgid(leader, leader), "setpgid");
  return leader;
}

void end_leader(pid_t leader) {
  must(kill(leader, SIGKILL), "kill");
  must(waitpid(leader, nullptr, 0), "waitpid");
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::vector<Child> children;
  constexpr pid_t own = 0, born_into = -1;

  // A session with two more groups in it; of the second one the leader has exited.
  children.push_back(member(w, "session", 1, {own, own, 1, 0}, [&] {
    std::vector<Child> below;
    below.push_back(member(w, "in-session", 2, {born_into, born_into, 1, 0}));
    below.push_back(member(w, "group", 3, {born_into, own, 0, 1}));
    below.push_back(member(w, "in-group", 4, {born_into, below.back().pid, 0, 1}));
    const pid_t leader = start_group();
    below.push_back(member(w, "left-in-session", 5, {born_into, leader, 0, 0}));
    end_leader(leader);
    return below;
  }));

  // In the root's session: a group without its leader, and one with.
  const pid_t leader = start_group();
  children.push_back(member(w, "left-first", 6, {born_into, leader, 1, 1}));
  children.push_back(member(w, "left-second", 7, {born_into, leader, 1, 1}));
  end_leader(leader);
  children.push_back(member(w, "leader", 8, {born_into, own, 0, 2}));
  const pid_t group = children.back().pid;
  // The parent of this one is in another group.
  children.push_back(member(w, "stranger", 9, {born_into, own, 0, 0},
                            [&] { return std::vector<Child>{member(w, "guest", 10, {born_into, group, 0, 2})}; }));

  // A session whose leader had children before: they have stayed in the old one, of which one has ended.
  children.push_back(start_child(w, "late-leader", 11, [&] {
    const Child before = member(w, "before", 12, {born_into, group, 0, 2});
    const pid_t ended = must(fork(), "fork");
    if (ended == 0) _exit(15);
    siginfo_t info;
    must(waitid(P_PID, static_cast<id_t>(ended), &info, WEXITED | WNOWAIT), "waitid");
    be_member(w, "late-leader", {own, own, 0, 0},
              [&] { return std::vector<Child>{before, member(w, "after", 13, {born_into, born_into, 0, 0})}; });
    int status = 0;
    w.check(waitpid(ended, &status, 0) == ended && status == 15 << 8, "its child that has ended: %s",
            how_it_ended(status).c_str());
  }));
  await_settled(w, "late-leader");
  children.push_back(member(w, "lonely", 14, {own, own, 0, 0}));

  w.ready();
  w.wait_for_verify();
  const pid_t session = children.front().pid;
  must(killpg(session, SIGUSR1), "killpg of the session's first group");
  const pid_t inner = atoi(read_file(w.path("pid-group")).c_str());
  must(killpg(inner, SIGUSR2), "killpg of the session's second group");
  w.check(killpg(leader, SIGUSR1) == 0 && killpg(leader, SIGUSR2) == 0, "the group without its leader is gone: %m");
  for (int i = 0; i < 2; ++i) {
    w.check(killpg(group, SIGUSR2) == 0, "the group %d is gone: %m", group);
    pause_for(0.3);  // a second one is not queued while the first one is pending
  }
  w.tell("signals-sent", "");
  for (const Child& child : children) check_end(w, child);
  w.check(killpg(leader, 0) == -1 && errno == ESRCH, "somebody is left in the group without its leader");
  return w.finish();
}
