// Checks: PID namespaces in a tree: made by clone and by unshare, one in another, two side by side. What processes and
// threads call themselves and each other there, sessions and groups from outside and made inside, zombies, a stopped
// one, an init that has ended, timers of threads; where children are born after unshare, before the first one, too. Of
// the stops of a move nobody is told.

#include "tests/workloads/children.h"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <fstream>
#include <functional>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <vector>

using namespace godwit::workloads;

namespace {

using Body = std::function<void()>;

struct Shared {  // by all: MAP_SHARED
  std::atomic<int> members;
};
Shared* shared_memory;
int speaking = -1, listening = -1;  // a pipe

std::string line_of(const std::string& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(key)) return line.substr(key.size() + 1);
  return {};
}

std::string link_of(const std::string& path) {
  char text[64];
  const ssize_t n = readlink(path.c_str(), text, sizeof text);
  return n < 0 ? std::string("none") : std::string(text, static_cast<std::size_t>(n));
}

// What the caller is called, in its own namespace and above it.
struct Names {
  pid_t pid = getpid(), tid = gettid(), parent = getppid(), session = getsid(0), group = getpgid(0);
  std::string pids = line_of("/proc/thread-self/status", "NSpid:"), groups = line_of("/proc/self/status", "NSpgid:"),
              sessions = line_of("/proc/self/status", "NSsid:");

  void check(Workload& w) const {
    const Names now;
    w.check(now.pid == pid && now.tid == tid, "it was %d, thread %d, and is %d, thread %d", pid, tid, now.pid, now.tid);
    w.check(now.parent == parent, "its parent was %d and is %d", parent, now.parent);
    w.check(now.session == session, "its session was %d and is %d", session, now.session);
    w.check(now.group == group, "its group was %d and is %d", group, now.group);
    w.check(now.pids == pids, "its PIDs were %s and are %s", pids.c_str(), now.pids.c_str());
    w.check(now.groups == groups, "its groups were %s and are %s", groups.c_str(), now.groups.c_str());
    w.check(now.sessions == sessions, "its sessions were %s and are %s", sessions.c_str(), now.sessions.c_str());
  }
};

// The first of a new namespace, which sees nobody above it.
Child start_init(Workload& w, const std::string& name, int code, const Body& body) {
  const pid_t pid = must(fork_sharing(CLONE_NEWPID), "clone");
  if (pid == 0) {
    must(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
    body();
    end_child(w, name, code);
  }
  await_settled(w, name);
  return {pid, name, code};
}

void be_member(Workload& w, const std::string& name, const std::function<std::vector<Child>()>& children = {},
               const Body& then = {}) {
  const Names names;
  const std::vector<Child> below = children ? children() : std::vector<Child>{};
  settled(w, name);
  w.wait_for_verify();
  names.check(w);
  ++shared_memory->members;
  w.check(write(speaking, "m", 1) == 1, "write to the pipe: %m");
  if (then) then();
  for (const Child& child : below) check_end(w, child);
}

Child member(Workload& w, const std::string& name, int code, const Body& body) {
  Child child = start_child(w, name, code, body);
  await_settled(w, name);
  return child;
}

pid_t dead(int code) {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) _exit(code);
  siginfo_t info;
  must(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), "waitid");
  return pid;
}

void check_dead(Workload& w, pid_t pid, int expected) {
  int status = 0;
  const pid_t got = waitpid(pid, &status, WNOHANG);
  w.check(got == pid && status == expected, "its dead child %d: waitpid returned %d, %s", pid, got,
          how_it_ended(status).c_str());
}

// One that has made a session, in which there is a group whose leader has ended.
void lead_session(Workload& w, const std::string& name) {
  must(setsid(), "setsid");
  const pid_t leader = dead(0);
  be_member(w, name, [&] {
    const pid_t first = must(fork(), "fork");
    if (first == 0) {
      for (;;) pause();
    }
    must(setpgid(first, first), "setpgid");
    std::vector<Child> below{member(w, name + "-group", 21, [&] {
      must(setpgid(0, first), "setpgid");
      be_member(w, name + "-group");
    })};
    must(kill(first, SIGKILL), "kill");
    must(waitpid(first, nullptr, 0), "waitpid");
    return below;
  });
  check_dead(w, leader, 0);
}

// Stopped, and its parent knows; it goes on when that has looked.
Child stopped(Workload& w, const std::string& name, int code) {
  const Child child = start_child(w, name, code, [&] {
    const Names names;
    settled(w, name);
    raise(SIGSTOP);
    names.check(w);
  });
  must(waitpid(child.pid, nullptr, WUNTRACED), "waitpid");
  return child;
}

void check_stopped(Workload& w, pid_t pid) {
  siginfo_t info{};
  w.check(waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == 0,
          "it is told again of the stop of %d", pid);
  w.check(kill(pid, SIGCONT) == 0, "continue %d: %m", pid);
}

void be_cloned_init(Workload& w, const std::string& name, bool deeper) {
  const pid_t zombie = dead(42);
  Child halted{};
  be_member(
      w, name,
      [&] {
        std::vector<Child> below;
        below.push_back(member(w, name + "-session", 11, [&] { lead_session(w, name + "-session"); }));
        below.push_back(halted = stopped(w, name + "-stopped", 12));
        if (deeper)
          below.push_back(start_init(w, name + "-deeper", 13, [&] { be_cloned_init(w, name + "-deeper", false); }));
        return below;
      },
      [&] { check_stopped(w, halted.pid); });
  check_dead(w, zombie, 42 << 8);
}

// A thread, with a timer that only it is told of.
struct Threads {
  Workload& w;
  std::atomic<pid_t> tid{0};
  std::atomic<bool> verify{false};
  std::thread thread{[this] {
    const Names names;
    tid = names.tid;
    while (!verify) pause_for(0.001);
    names.check(w);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    const timespec limit{5, 0};
    siginfo_t info{};
    w.check(sigtimedwait(&set, &info, &limit) == SIGRTMIN && info.si_code == SI_TIMER, "its timer tells it nothing");
    w.check(sigtimedwait(&set, &info, &limit) == SIGRTMIN && info.si_int == 77, "nobody calls it by its TID");
  }};
};

void be_unshared_init(Workload& w, const std::string& name) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  must(sigprocmask(SIG_BLOCK, &set, nullptr), "sigprocmask");
  Threads threads{w};
  while (threads.tid == 0) pause_for(0.001);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGRTMIN;
  event._sigev_un._tid = threads.tid;
  int timer = -1;
  must(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer), "timer_create");
  be_member(
      w, name,
      [&] { return std::vector<Child>{member(w, name + "-child", 31, [&] { be_member(w, name + "-child"); })}; },
      [&] {
        threads.verify = true;
        const itimerspec soon{{0, 0}, {0, 1'000'000}};
        w.check(syscall(SYS_timer_settime, timer, 0, &soon, nullptr) == 0, "start the timer: %m");
        pause_for(0.1);
        siginfo_t info{};
        info.si_code = SI_QUEUE;
        info.si_int = 77;
        w.check(syscall(SYS_rt_tgsigqueueinfo, getpid(), threads.tid.load(), SIGRTMIN, &info) == 0, "call it: %m");
      });
  threads.thread.join();
}

// A child that only says what it is called.
pid_t name_of_next_child() {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) _exit(getpid() & 0x7f);
  int status = 0;
  must(waitpid(pid, &status, 0), "waitpid");
  return WEXITSTATUS(status);
}

// In a group of its own, into which the init is born.
void unsharer(Workload& w, const std::string& name) {
  must(setpgid(0, 0), "setpgid");
  const Child before = member(w, name + "-before", 41, [&] { be_member(w, name + "-before"); });
  must(unshare(CLONE_NEWPID), "unshare");
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) {
    must(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
    be_unshared_init(w, name + "-init");
    end_child(w, name + "-init", 42);
  }
  const Child init{pid, name + "-init", 42};
  await_settled(w, init.name);
  be_member(
      w, name, [&] { return std::vector<Child>{before, init}; },
      [&] {
        const std::string here = link_of("/proc/self/ns/pid"), below = link_of("/proc/self/ns/pid_for_children");
        w.check(below != here && below != "none", "children are born in %s", below.c_str());
      });
}

void waiter(Workload& w, const std::string& name) {
  must(unshare(CLONE_NEWPID), "unshare");
  be_member(w, name, {}, [&] {
    const pid_t child = name_of_next_child();
    w.check(child == 1, "its first child after unshare is %d in its namespace", child);
  });
}

// An init that is born into the group of a process further below in the tree than it is.
void joiner(Workload& w, const std::string& name) {
  await(w, "group");
  must(setpgid(0, atoi(read_file(w.path("group")).c_str())), "setpgid");
  be_member(w, name, [&] {
    return std::vector<Child>{start_init(w, name + "-init", 51, [&] { be_member(w, name + "-init"); })};
  });
}

void further_below(Workload& w, const std::string& name, int levels) {
  if (levels == 0) {
    must(setpgid(0, 0), "setpgid");
    w.tell("group", std::to_string(getpid()));
  }
  be_member(w, name, [&] {
    if (levels == 0) return std::vector<Child>{};
    const std::string below = name + "-below";
    return std::vector<Child>{member(w, below, 60 + levels, [&] { further_below(w, below, levels - 1); })};
  });
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  void* at = must(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), "mmap");
  shared_memory = new (at) Shared{};
  int ends[2];
  must(pipe(ends), "pipe");
  listening = ends[0];
  speaking = ends[1];
  std::vector<Child> children;
  children.push_back(start_init(w, "cloned", 1, [&] { be_cloned_init(w, "cloned", true); }));
  children.push_back(start_init(w, "beside", 2, [&] { be_cloned_init(w, "beside", false); }));
  children.push_back(member(w, "unsharer", 3, [&] { unsharer(w, "unsharer"); }));
  children.push_back(member(w, "waiter", 4, [&] { waiter(w, "waiter"); }));
  const pid_t ended = must(fork_sharing(CLONE_NEWPID), "clone");
  if (ended == 0)
    for (;;) pause();
  must(kill(ended, SIGKILL), "kill");
  siginfo_t info;
  must(waitid(P_PID, static_cast<id_t>(ended), &info, WEXITED | WNOWAIT), "waitid");
  children.push_back(start_child(w, "joiner", 5, [&] { joiner(w, "joiner"); }));
  children.push_back(member(w, "far", 6, [&] { further_below(w, "far", 2); }));
  await_settled(w, "joiner");
  const int cloned = static_cast<int>(must(syscall(SYS_pidfd_open, children[0].pid, 0), "pidfd_open"));
  const std::string pidfd = "/proc/self/fdinfo/" + std::to_string(cloned), names = line_of(pidfd, "NSpid:");

  sigset_t told;
  sigemptyset(&told);
  sigaddset(&told, SIGCHLD);
  must(sigprocmask(SIG_BLOCK, &told, nullptr), "sigprocmask");
  const timespec no_time{};
  const auto hear = [&] {
    if (sigtimedwait(&told, &info, &no_time) == SIGCHLD)
      w.check(info.si_code != CLD_STOPPED && info.si_code != CLD_TRAPPED, "it is told of a stop of %d", info.si_pid);
  };

  w.ready();
  w.wait_for_verify(hear);
  hear();
  const std::string now = line_of(pidfd, "NSpid:");
  w.check(now == names, "its pidfd was of %s and is of %s", names.c_str(), now.c_str());
  check_dead(w, ended, SIGKILL);
  for (const Child& child : children) check_end(w, child);
  constexpr int members = 19;
  w.check(shared_memory->members == members, "%d members have the shared memory, not %d", shared_memory->members.load(),
          members);
  char said[2 * members];
  const ssize_t n = read(listening, said, sizeof said);
  w.check(n == members, "%zd members have the pipe, not %d", n, members);
  return w.finish();
}
