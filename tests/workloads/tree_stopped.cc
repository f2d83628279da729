// Checks: children stopped by signals stay stopped, each by the signal that stopped it; a parent that has not waited
// for the stop yet can do so once, one that has is not told again. No signal tells of it either.

#include "tests/workloads/children.h"

#include <csignal>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

using namespace godwit::workloads;

namespace {

struct Stopped {
  Child child;
  int signal;
  bool seen;  // by its parent
};

char state_of(pid_t pid) {
  const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const auto after_name = stat.rfind(") ");
  return after_name == std::string::npos ? '?' : stat[after_name + 2];
}

Stopped stop(Workload& w, const std::string& name, int code, int signal, bool seen) {
  const Child child = start_child(w, name, code, [&] {
    must(setpgid(0, 0), "setpgid");  // of an orphaned group the terminal stops nobody
    char* const memory = map(1 << 16);
    fill(memory, 1 << 16, static_cast<std::uint64_t>(code));
    std::atomic<bool> ending = false;
    std::atomic<std::uint64_t> turns = 0;  // of another thread, which stops with it
    std::thread turning([&] {
      for (; !ending; pause_for(0.001)) ++turns;
    });
    settled(w, name);
    w.wait_for_verify();
    await(w, "continued");
    const std::uint64_t before = turns;
    w.check(w.wait_until([&] { return turns > before; }), "the other thread does not go on");
    ending = true;
    turning.join();
    w.check(holds(memory, 1 << 16, static_cast<std::uint64_t>(code)), "the memory changed");
  });
  await_settled(w, name);
  must(kill(child.pid, signal), "kill");
  siginfo_t info;
  must(waitid(P_PID, static_cast<id_t>(child.pid), &info, WSTOPPED | (seen ? 0 : WNOWAIT)), "waitid");
  return {child, signal, seen};
}

void check_stop(Workload& w, const Stopped& s) {
  const char* const name = s.child.name.c_str();
  w.check(state_of(s.child.pid) == 'T', "%s is in state %c", name, state_of(s.child.pid));
  int status = 0;
  const pid_t got = waitpid(s.child.pid, &status, WUNTRACED | WNOHANG);
  if (s.seen)
    w.check(got == 0, "%s: waitpid told the stop again: %d, %s", name, got, how_it_ended(status).c_str());
  else if (w.check(got == s.child.pid && WIFSTOPPED(status), "%s: waitpid returned %d", name, got))
    w.check(WSTOPSIG(status) == s.signal, "%s: %s, not %d", name, how_it_ended(status).c_str(), s.signal);
  w.check(waitpid(s.child.pid, &status, WUNTRACED | WNOHANG) == 0, "%s: waitpid told the stop twice", name);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::vector<Stopped> all;
  all.push_back(stop(w, "seen", 1, SIGSTOP, true));
  all.push_back(stop(w, "unseen", 2, SIGSTOP, false));
  all.push_back(stop(w, "terminal-seen", 3, SIGTSTP, true));
  all.push_back(stop(w, "terminal-unseen", 4, SIGTSTP, false));
  static std::atomic<int> told = 0;
  struct sigaction action{};
  action.sa_handler = [](int) { ++told; };
  action.sa_flags = SA_RESTART;
  must(sigaction(SIGCHLD, &action, nullptr), "sigaction");

  w.ready();
  w.expect_interrupts();
  w.wait_for_verify();
  w.check(told == 0, "the parent was told of %d changes of its children", told.load());
  for (const Stopped& s : all) check_stop(w, s);
  for (const Stopped& s : all) must(kill(s.child.pid, SIGCONT), "kill");
  w.tell("continued", "");
  for (const Stopped& s : all) check_end(w, s.child);
  return w.finish();
}
