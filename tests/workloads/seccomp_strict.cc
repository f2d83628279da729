// Checks: strict mode of seccomp, of a process and of one thread of another, which may only read, write and end: each
// goes on with its count, is in that mode still, and is killed by the first other call.

#include "tests/workloads/children.h"
#include "tests/workloads/seccomp.h"

#include <csignal>
#include <filesystem>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>

using namespace godwit::workloads;

namespace {

constexpr char more = 'm', forbidden = 'f';

struct Talk {
  int ask[2], tell[2];
  Talk() {
    must(pipe(ask), "pipe");
    must(pipe(tell), "pipe");
  }
  // The next number; 0 when there is no answer.
  unsigned next(char what = more) const {
    unsigned number = 0;
    if (write(ask[1], &what, 1) != 1 || !readable(tell[0])) return 0;
    return read(tell[0], &number, sizeof number) == sizeof number ? number : 0;
  }
};

// Nothing of the C library but what is one of the calls.
[[noreturn]] void count_strictly(const Talk& talk) {
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
  for (unsigned number = 1;; ++number) {
    char what = 0;
    if (syscall(SYS_read, talk.ask[0], &what, 1) != 1) syscall(SYS_exit, 1);
    if (what == forbidden) syscall(SYS_getppid);
    syscall(SYS_write, talk.tell[1], &number, sizeof number);
  }
}

// Whether a thread of this process is in strict mode.
bool is_strict(pid_t pid) {
  for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task"))
    if (seccomp_state(thread.path()).starts_with("mode 1")) return true;
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const Talk with_process, with_thread;
  const pid_t self = getpid();
  const pid_t process = must(fork(), "fork");
  if (process == 0) {
    begin_child(self);
    count_strictly(with_process);
  }
  const Child threaded = start_child(w, "threaded", 7, [&] {
    std::thread([&] { count_strictly(with_thread); }).detach();
    await(w, "end");
    const std::string own = seccomp_state();
    w.check(own == "mode 0, 0 filters", "the thread beside it has %s", own.c_str());
  });
  for (unsigned i = 1; i <= 2; ++i)
    if (with_process.next() != i || with_thread.next() != i) give_up("counting");

  w.ready();
  w.wait_for_verify();
  for (const pid_t pid : {process, threaded.pid})
    w.check(is_strict(pid), "process %d has no thread in strict mode", pid);
  unsigned number = with_process.next();
  w.check(number == 3, "the process counted %u", number);
  number = with_thread.next();
  w.check(number == 3, "the thread counted %u", number);
  with_process.next(forbidden);
  int status = 0;
  w.check(w.wait_until([&] { return waitpid(process, &status, WNOHANG) == process; }) && WIFSIGNALED(status) &&
              WTERMSIG(status) == SIGKILL,
          "after a forbidden call the process %s", how_it_ended(status).c_str());
  number = with_thread.next(forbidden);
  w.check(number == 0, "after a forbidden call the thread counted %u", number);
  w.check(!is_strict(threaded.pid), "after a forbidden call the thread is there");
  w.tell("end", "");
  check_end(w, threaded);
  return w.finish();
}
