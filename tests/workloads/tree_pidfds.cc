// Checks: pidfds: of the process itself, of a parent, of a child that lives, of one that has ended, of ones that have
// been waited for; what they are, whether they can be waited and watched for, who gets a signal through them.

#include "tests/workloads/children.h"
#include "tests/workloads/pidfds.h"

#include <cerrno>
#include <csignal>
#include <sys/wait.h>

using namespace godwit::workloads;

namespace {

struct Ended {
  int fd;
  int end;
};

int child_that_ends(int status) {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) {
    if (WIFSIGNALED(status)) kill(getpid(), WTERMSIG(status));
    _exit(WEXITSTATUS(status));
  }
  return open_process(pid);
}

siginfo_t wait_for(int fd, int flags) {
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(fd), &info, WEXITED | flags) != 0)
    if (errno != EINTR) give_up("waitid");
  return info;
}

Ended waited_for(int status) {
  const int fd = child_that_ends(status);
  wait_for(fd, 0);
  return {fd, end_of(fd)};
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int self = open_process(getpid(), O_NONBLOCK);
  const Child child = start_child(w, "child", 21, [&] {
    const int parent = open_process(getppid());
    settled(w, "child");
    w.wait_for_verify();
    w.check(process_of(parent) == getppid(), "the parent is %d", process_of(parent));
    w.check(!ended(parent), "the parent has ended");
    w.check(signal_to(self, 0) == 0 && process_of(self) == getppid(), "the inherited one is %d", process_of(self));
    await(w, "go");
  });
  await_settled(w, "child");
  const int living = open_process(child.pid);
  const int same = must(fcntl(living, F_DUPFD_CLOEXEC, 80), "F_DUPFD_CLOEXEC");
  const int dead = child_that_ends(42 << 8);
  wait_for(dead, WNOWAIT);
  const Ended gone[] = {waited_for(0), waited_for(7 << 8), waited_for(SIGKILL), waited_for(SIGTERM)};
  const int watch = watch_for_end(living);

  w.ready();
  w.expect_interrupts();
  w.wait_for_verify();

  w.check(process_of(self) == getpid(), "the process itself is %d", process_of(self));
  w.check((fcntl(self, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(living, F_GETFL) & O_NONBLOCK) == 0,
          "the flags are %#o and %#o", fcntl(self, F_GETFL), fcntl(living, F_GETFL));
  w.check(process_of(living) == child.pid, "the child is %d", process_of(living));
  w.check(!ended(living) && signal_to(living, 0) == 0, "the child is not alive");
  w.check(ended(dead), "the child that has ended is alive");
  siginfo_t info = wait_for(dead, 0);
  w.check(info.si_code == CLD_EXITED && info.si_status == 42, "the child that has ended: code %d, status %d",
          info.si_code, info.si_status);
  for (const Ended& one : gone) {
    w.check(process_of(one.fd) == -1 && ended(one.fd), "one that was waited for is %d", process_of(one.fd));
    w.check(signal_to(one.fd, 0) == -1 && errno == ESRCH, "one that was waited for gets signals: %m");
    w.check(end_of(one.fd) == one.end || w.beside_criu(), "it ended as %#x instead of %#x", end_of(one.fd), one.end);
  }
  w.check(told_by(watch, 0) == 0, "the child is said to have ended");
  w.tell("go", "");
  w.check(told_by(watch, 10'000) == of_the_watched, "nobody tells of the child's end");
  info = wait_for(same, WNOWAIT);
  w.check(info.si_pid == child.pid, "process %d has ended, not %d", info.si_pid, child.pid);
  check_end(w, child);
  return w.finish();
}
