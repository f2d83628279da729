// Checks: what is pending and what is blocked, of each process for itself, and signals between processes after the
// move: each knows the others by their old PIDs.

#include "tests/workloads/children.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr int members = 3;
constexpr int queued = 5;  // of one real-time signal

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  return set;
}

// A signal of the process's own for each member, so that one's cannot be taken for the other's.
int plain(int member) { return member == 0 ? SIGUSR1 : member == 1 ? SIGUSR2 : SIGHUP; }
int real_time(int member) { return SIGRTMIN + 2 + member; }
int greeting() { return SIGRTMIN + 10; }

int value_of(int member, int i) { return member * 1000 + i; }

std::string blocked_now() {
  sigset_t set;
  sigprocmask(SIG_BLOCK, nullptr, &set);
  std::string text;
  for (int signal = 1; signal <= SIGRTMAX; ++signal) text += sigismember(&set, signal) == 1 ? '1' : '0';
  return text;
}

bool take(int signal, siginfo_t& info, double seconds = 0) {
  const sigset_t set = set_of({signal});
  const timespec limit{static_cast<time_t>(seconds), 0};
  return sigtimedwait(&set, &info, &limit) == signal;
}

void check_pending(Workload& w, int member, pid_t sender) {
  siginfo_t info{};
  sigset_t pending;
  sigpending(&pending);
  for (int other = 0; other < members; ++other) {
    const bool own = other == member;
    w.check((sigismember(&pending, plain(other)) == 1) == own, "signal %d is%s pending", plain(other),
            own ? " not" : "");
    w.check((sigismember(&pending, real_time(other)) == 1) == own, "signal %d is%s pending", real_time(other),
            own ? " not" : "");
  }
  w.check(take(plain(member), info) && info.si_pid == sender, "signal %d is from %d, not from %d", plain(member),
          info.si_pid, sender);
  for (int i = 0; i < queued; ++i)
    w.check(take(real_time(member), info) && info.si_value.sival_int == value_of(member, i) && info.si_pid == sender,
            "number %d of signal %d has the value %d", i, real_time(member), info.si_value.sival_int);
  w.check(!take(real_time(member), info), "there is one more of signal %d", real_time(member));
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const pid_t root = getpid();
  const sigset_t greetings = set_of({greeting()});
  must(sigprocmask(SIG_BLOCK, &greetings, nullptr), "sigprocmask");
  const std::string blocked_at_first = blocked_now();
  std::vector<Child> children;
  for (int member = 0; member < members; ++member) {
    const std::string name = "member-" + std::to_string(member);
    children.push_back(start_child(w, name, 30 + member, [&, member, name] {
      const sigset_t own = set_of({plain(member), real_time(member)});
      must(sigprocmask(SIG_BLOCK, &own, nullptr), "sigprocmask");
      const std::string blocked = blocked_now();
      settled(w, name);
      w.wait_for_verify();
      w.check(blocked_now() == blocked, "blocked were %s and are %s", blocked.c_str(), blocked_now().c_str());
      check_pending(w, member, root);
      // To the next older one by its PID; the oldest one's is the root's.
      const pid_t to = member == 0 ? root : children[static_cast<std::size_t>(member) - 1].pid;
      w.check(sigqueue(to, greeting(), sigval{member}) == 0, "a signal to %d: %m", to);
      siginfo_t info{};
      if (member + 1 < members)
        w.check(take(greeting(), info, 10) && info.si_value.sival_int == member + 1, "no greeting comes");
      w.check(kill(getpid(), greeting()) == 0 && take(greeting(), info) && info.si_pid == getpid(),
              "a signal to itself is from %d", info.si_pid);
    }));
    await_settled(w, name);
    must(kill(children.back().pid, plain(member)), "kill");
    for (int i = 0; i < queued; ++i)
      must(sigqueue(children.back().pid, real_time(member), sigval{value_of(member, i)}), "sigqueue");
  }

  w.ready();
  w.wait_for_verify();
  w.check(blocked_now() == blocked_at_first, "blocked were %s and are %s", blocked_at_first.c_str(),
          blocked_now().c_str());
  siginfo_t info{};
  w.check(take(greeting(), info, 10) && info.si_pid == children.front().pid && info.si_value.sival_int == 0,
          "the greeting is from %d, not from %d", info.si_pid, children.front().pid);
  for (const Child& child : children) check_end(w, child);
  return w.finish();
}
