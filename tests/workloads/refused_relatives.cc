// What relatives are to each other, or share, that cannot be rebuilt.

#include "tests/workloads/refused.h"

#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

// It shares its parent's memory, and the parent waits, for as long as it runs no other program: in a child of the
// workload, whose own memory is looked at in the end.
long vfork_child(Workload& w) {
  if (fork() == 0)
    live_on([&] {
      if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        syscall(SYS_close, syscall(SYS_creat, w.path("born").c_str(), 0600));
        for (;;) syscall(SYS_pause);
      }
    });
  while (!w.asked("born")) pause_for(0.001);
  return 0;
}

// A process that is no child, and shares something with this one.
long share_with_bystander(Workload& w, int what) {
  const pid_t owner = getpid();
  const long between = relative(static_cast<unsigned long>(what), SIGCHLD, [&] {
    if (syscall(SYS_clone, what, nullptr, nullptr, nullptr, 0) != 0) _exit(0);
    w.tell("bystander", "");
    while (kill(owner, 0) == 0) pause_for(0.01);
    _exit(0);
  });
  waitpid(static_cast<pid_t>(between), nullptr, 0);
  while (!w.asked("bystander")) pause_for(0.001);
  return 0;
}

long files_outside(Workload& w) { return share_with_bystander(w, CLONE_FILES); }

long directory_outside(Workload& w) { return share_with_bystander(w, CLONE_FS); }

// A child's child shares descriptors with this process, past its parent, who shares others with another one.
long files_past_parent(Workload& w) {
  const long between = relative(CLONE_FILES, SIGCHLD, [&] {
    relative(CLONE_FILES, SIGCHLD, [] {});
    const bool left = unshare(CLONE_FILES) == 0 && relative(CLONE_FILES, SIGCHLD, [] {}) > 0;
    w.tell("left", left ? "yes" : "no");
  });
  while (!w.asked("left")) pause_for(0.001);
  return read_file(w.path("left")) == "yes" ? between : -1;
}

long child_pid_namespace(Workload&) {
  return relative(CLONE_NEWPID, SIGCHLD, [] {});
}

// Another child has come into it, and bears one there.
long enter_pid_namespace(Workload& w, bool bears) {
  const long init = relative(CLONE_NEWPID, SIGCHLD, [] {});
  if (init < 0) return -1;
  relative(0, SIGCHLD, [&] {
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, init, 0));
    const bool entered = setns(pidfd, CLONE_NEWPID) == 0 && (!bears || relative(0, SIGCHLD, [] {}) > 0);
    close(pidfd);
    w.tell("entered", entered ? "yes" : "no");
  });
  while (!w.asked("entered")) pause_for(0.001);
  return read_file(w.path("entered")) == "yes" ? 0 : -1;
}

long entered_pid_namespace(Workload& w) { return enter_pid_namespace(w, false); }

long entered_from_outside(Workload& w) { return enter_pid_namespace(w, true); }

// Of a namespace in which nobody can be born any more.
long ended_pid_namespace(Workload& w) {
  relative(0, SIGCHLD, [&] {
    bool ended = unshare(CLONE_NEWPID) == 0;
    const pid_t init = ended ? fork() : -1;
    if (init == 0) _exit(0);
    ended = init > 0 && waitpid(init, nullptr, 0) == init;
    w.tell("ended", ended ? "yes" : "no");
  });
  while (!w.asked("ended")) pause_for(0.001);
  return read_file(w.path("ended")) == "yes" ? 0 : -1;
}

// One that has no init yet, of a process with a thread that was there before.
long threads_namespace(Workload& w) {
  relative(0, SIGCHLD, [&] {
    const bool unshared = in_a_thread([] { return 0; }) == 0 && unshare(CLONE_NEWPID) == 0;
    w.tell("unshared", unshared ? "yes" : "no");
  });
  while (!w.asked("unshared")) pause_for(0.001);
  return read_file(w.path("unshared")) == "yes" ? 0 : -1;
}

long thread_pid_namespace(Workload&) {
  return in_a_thread([] { return unshare(CLONE_NEWPID); });
}

// Only its own fault ends an init by a signal other than SIGKILL.
long faulty_init(Workload&) {
  const long init = relative(CLONE_NEWPID, SIGCHLD, [] {
    prctl(PR_SET_DUMPABLE, 0);
    *static_cast<volatile int*>(nullptr) = 1;
  });
  siginfo_t info;
  return init < 0 ? -1 : waitid(P_PID, static_cast<id_t>(init), &info, WEXITED | WNOWAIT);
}

long child_exit_signal(Workload&) {
  return relative(0, SIGUSR2, [] {});
}

// One child traces another one.
long member_tracer(Workload& w) {
  const long tracee = relative(0, SIGCHLD, [] {});
  relative(0, SIGCHLD, [&] { w.tell("seized", ptrace(PTRACE_SEIZE, tracee, nullptr, nullptr) == 0 ? "yes" : "no"); });
  while (!w.asked("seized")) pause_for(0.001);
  return read_file(w.path("seized")) == "yes" ? 0 : -1;
}

// By a process that is no child, so that being traced is all there is to refuse.
long traced(Workload&) {
  const pid_t target = getpid();
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  const pid_t between = fork();
  if (between == 0) {
    if (fork() == 0) {
      const bool seized = ptrace(PTRACE_SEIZE, target, nullptr, nullptr) == 0;
      static_cast<void>(!write(ends[1], &seized, 1));
      close(ends[0]);
      close(ends[1]);
      // SIGCHLD of the process between stops the target, too: hand on what it gets, and go on tracing.
      for (int status = 0;; pause_for(0.01)) {
        const pid_t stopped = waitpid(target, &status, WNOHANG | __WALL);
        if (stopped < 0 || (stopped == target && !WIFSTOPPED(status))) break;
        if (stopped == target) ptrace(PTRACE_CONT, target, nullptr, status >> 16 ? 0 : WSTOPSIG(status));
      }
      _exit(0);
    }
    _exit(0);
  }
  waitpid(between, nullptr, 0);
  bool seized = false;
  close(ends[1]);
  static_cast<void>(!read(ends[0], &seized, 1));
  close(ends[0]);
  return seized ? 0 : -1;
}

long tracer(Workload& w) {
  bystander([&] { w.tell("bystander", std::to_string(getpid())); });
  while (!w.asked("bystander")) pause_for(0.001);
  return ptrace(PTRACE_SEIZE, atoi(read_file(w.path("bystander")).c_str()), nullptr, nullptr);
}

long shared_memory(Workload&) {
  static char stack[1 << 16];
  static const pid_t owner = getpid();
  return clone(
      [](void*) {
        while (kill(owner, 0) == 0) pause_for(0.01);
        _exit(0);
        return 0;
      },
      stack + sizeof stack, CLONE_VM | CLONE_PARENT | SIGCHLD, nullptr);
}

// A child of this process that has the memory of another child, not of this process.
long memory_of_sibling(Workload& w) {
  static char stack[1 << 16];
  relative(0, SIGCHLD, [&] {
    const int made = clone(
        [](void*) {
          for (;;) syscall(SYS_pause);
          return 0;
        },
        stack + sizeof stack, CLONE_VM | CLONE_PARENT | SIGCHLD, nullptr);
    w.tell("made", made > 0 ? "yes" : "no");
  });
  while (!w.asked("made")) pause_for(0.001);
  return read_file(w.path("made")) == "yes" ? 0 : -1;
}

// A child that uses this process's memory has a child with memory of its own.
long child_beside_memory(Workload&) {
  static char stack[1 << 16];
  static std::atomic<long> below = 0;
  clone(
      [](void*) {
        syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
        const long pid = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0);
        if (pid == 0) syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
        below = pid;
        for (;;) syscall(SYS_pause);
        return 0;
      },
      stack + sizeof stack, CLONE_VM | SIGCHLD, nullptr);
  while (below == 0) pause_for(0.001);
  return below;
}

constexpr Kind kinds[] = {{"vfork_child", vfork_child},
                          {"files_outside", files_outside},
                          {"directory_outside", directory_outside},
                          {"files_past_parent", files_past_parent},
                          {"child_pid_namespace", child_pid_namespace},
                          {"entered_pid_namespace", entered_pid_namespace},
                          {"entered_from_outside", entered_from_outside},
                          {"ended_pid_namespace", ended_pid_namespace},
                          {"threads_namespace", threads_namespace},
                          {"thread_pid_namespace", thread_pid_namespace},
                          {"faulty_init", faulty_init},
                          {"child_exit_signal", child_exit_signal},
                          {"member_tracer", member_tracer},
                          {"traced", traced},
                          {"tracer", tracer},
                          {"shared_memory", shared_memory},
                          {"memory_of_sibling", memory_of_sibling},
                          {"child_beside_memory", child_beside_memory}};

}  // namespace

int main(int argc, char** argv) { return be_refused(argc, argv, kinds); }
