// Checks: children that have ended and that nobody has waited for: their parents get exactly their statuses. What a
// parent was told (SIGCHLD), it is told once, and of the stops of a move nothing at all: neither one with a handler,
// nor one that has SIGCHLD blocked, with or without one pending, nor one that reads it from a signalfd.

#include "tests/workloads/children.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <vector>

using namespace godwit::workloads;

namespace {

std::atomic<int> told[16];  // by si_code

struct Zombie {
  pid_t pid;
  int status;
};

void wait_until_dead(pid_t pid) {
  siginfo_t info;
  while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0)
    if (errno != EINTR) give_up("waitid");
}

Zombie exited(int code) {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) _exit(code);
  wait_until_dead(pid);
  return {pid, code << 8};
}

Zombie killed(int signal) {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) {
    struct sigaction none{};
    sigaction(signal, &none, nullptr);
    kill(getpid(), signal);
    _exit(1);
  }
  wait_until_dead(pid);
  return {pid, signal};
}

void check_zombie(Workload& w, const Zombie& z, const char* whose) {
  int status = 0;
  const pid_t got = waitpid(z.pid, &status, WNOHANG);
  w.check(got == z.pid && status == z.status, "the %s's child %d: waitpid returned %d, %s instead of %s", whose, z.pid,
          got, how_it_ended(status).c_str(), how_it_ended(z.status).c_str());
}

// Somebody whose stops and continuations the parent could be told of.
Child living(Workload& w, const std::string& name) {
  const Child child = start_child(w, name, 21, [&] {
    settled(w, name);
    w.wait_for_verify();
    await(w, "parents-checked");
  });
  await_settled(w, name);
  return child;
}

sigset_t block_sigchld() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  must(sigprocmask(SIG_BLOCK, &set, nullptr), "sigprocmask");
  return set;
}

int take(const sigset_t& set, siginfo_t& info) {
  const timespec no_time{};
  return sigtimedwait(&set, &info, &no_time);
}

// What is pending is what came before: of the zombie.
void blocked_with_one_pending(Workload& w) {
  const sigset_t set = block_sigchld();
  const Zombie zombie = exited(77);
  const Child child = living(w, "child-of-pending");
  settled(w, "pending");
  w.wait_for_verify();
  siginfo_t info{};
  w.check(take(set, info) == SIGCHLD && info.si_code == CLD_EXITED && info.si_pid == zombie.pid,
          "the pending SIGCHLD is of code %d and process %d", info.si_code, info.si_pid);
  w.check(take(set, info) == -1, "another SIGCHLD of code %d and process %d is pending", info.si_code, info.si_pid);
  check_zombie(w, zombie, "one with a pending SIGCHLD");
  settled(w, "pending-checked");
  check_end(w, child);
}

void blocked_with_none_pending(Workload& w) {
  const Child child = living(w, "child-of-blocked");
  const sigset_t set = block_sigchld();
  settled(w, "blocked");
  w.wait_for_verify();
  siginfo_t info{};
  w.check(take(set, info) == -1, "a SIGCHLD of code %d and process %d is pending", info.si_code, info.si_pid);
  settled(w, "blocked-checked");
  check_end(w, child);
}

void reader(Workload& w) {
  const sigset_t set = block_sigchld();
  const Child child = living(w, "child-of-reader");
  const int fd = must(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), "signalfd");
  settled(w, "reader");
  const auto nothing = [&] {
    signalfd_siginfo info{};
    const bool none = read(fd, &info, sizeof info) == -1 && errno == EAGAIN;
    w.check(none, "the signalfd has a SIGCHLD of code %d and process %u", info.ssi_code, info.ssi_pid);
  };
  w.wait_for_verify(nothing);
  nothing();
  settled(w, "reader-checked");
  check_end(w, child);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const rlimit no_core{0, 0};
  must(setrlimit(RLIMIT_CORE, &no_core), "setrlimit");
  std::vector<Child> parents;
  parents.push_back(start_child(w, "pending", 1, [&] { blocked_with_one_pending(w); }));
  parents.push_back(start_child(w, "blocked", 2, [&] { blocked_with_none_pending(w); }));
  parents.push_back(start_child(w, "reader", 3, [&] { reader(w); }));
  for (const Child& parent : parents) await_settled(w, parent.name);
  struct sigaction action{};
  action.sa_sigaction = [](int, siginfo_t* info, void*) { ++told[info->si_code & 15]; };
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  must(sigaction(SIGCHLD, &action, nullptr), "sigaction");
  const std::vector<Zombie> zombies{exited(0),       exited(42),      exited(255),     killed(SIGKILL),
                                    killed(SIGTERM), killed(SIGPIPE), killed(SIGSEGV), killed(SIGRTMIN)};
  for (auto& count : told) count = 0;

  w.ready();
  w.expect_interrupts();
  w.wait_for_verify();
  for (const Child& parent : parents) await_settled(w, parent.name + "-checked");
  for (int code = 0; code < 16; ++code)
    w.check(told[code] == 0, "the handler ran for %d SIGCHLD of code %d", told[code].load(), code);
  for (const Zombie& z : zombies) check_zombie(w, z, "root");
  w.tell("parents-checked", "");
  for (const Child& parent : parents) check_end(w, parent);
  w.check(waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD, "there are children that it never made");
  w.check(told[CLD_EXITED] >= 1, "nobody told of the end of the living");
  return w.finish();
}
