// Checks: a parent of daemons: each is left behind by the leader of its session, who has ended, but is waited for only
// after a while. Whoever was waited for is not there again, and of no end is the parent told twice.

#include "tests/workloads/children.h"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <sys/wait.h>

using namespace godwit::workloads;

namespace {

constexpr int init = 1;
constexpr int most_daemons = 8;

std::string file(const char* what, int number) { return std::string(what) + "-" + std::to_string(number); }

[[noreturn]] void be_daemon(Workload& w, int number, pid_t leader) {
  while (getppid() != init) pause_for(0.001);
  w.tell(file("pid", number).c_str(), std::to_string(getpid()));
  while (!w.asked(file("end", number).c_str())) pause_for(0.005);
  w.check(getppid() == init, "the parent is %d", getppid());
  w.check(getsid(0) == leader, "the session was %d and is %d", leader, getsid(0));
  w.check(getpgid(0) == leader, "the group was %d and is %d", leader, getpgid(0));
  w.tell(file("verdict", number).c_str(), w.failure());
  _exit(0);
}

// Its leader, a zombie by then.
pid_t start(Workload& w, int number) {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) {
    must(setsid(), "setsid");
    const pid_t leader = getpid();
    if (must(fork(), "fork") == 0) be_daemon(w, number, leader);
    _exit(0);
  }
  w.check(w.wait_until([&] { return w.asked(file("pid", number).c_str()); }), "daemon %d does not begin", number);
  return pid;
}

void end(Workload& w, int number) {
  w.tell(file("end", number).c_str(), "");
  const std::string verdict = file("verdict", number);
  if (!w.check(w.wait_until([&] { return w.asked(verdict.c_str()); }), "daemon %d does not go on", number)) return;
  const std::string complaint = read_file(w.path(verdict));
  w.check(complaint.empty(), "daemon %d: %s", number, complaint.c_str());
}

bool told_of_a_child(const sigset_t& set) {
  const timespec no_time{};
  return sigtimedwait(&set, nullptr, &no_time) == SIGCHLD;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sigset_t told;
  sigemptyset(&told);
  sigaddset(&told, SIGCHLD);
  must(sigprocmask(SIG_BLOCK, &told, nullptr), "sigprocmask");
  int first = 0, next = 0;  // of the daemons that are there

  w.ready();
  w.wait_for_verify([&] {
    if (next - first == most_daemons) end(w, first++);
    const pid_t leader = start(w, next++);
    pause_for(0.03);
    const pid_t got = waitpid(leader, nullptr, WNOHANG);
    w.check(got == leader && told_of_a_child(told), "its child %d ended: waitpid returned %d", leader, got);
  });
  w.check(!told_of_a_child(told), "it is told of the end of a child that it has waited for");
  const pid_t got = waitpid(-1, nullptr, WNOHANG);
  w.check(got == -1 && errno == ECHILD, "a child that it has waited for is there again: waitpid returned %d", got);
  while (first < next) end(w, first++);
  return w.finish();
}
