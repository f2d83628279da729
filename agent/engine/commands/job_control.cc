#include "agent/engine/commands/job_control.h"

#include "common/base/check.h"
#include "common/base/waiting.h"

#include <csignal>
#include <ctime>

#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::commands {
namespace {

// Not SIG_IGN, which the scripts would inherit.
void does_nothing(int) {}

class Job {
 public:
  Job(pid_t root, pid_t group, pid_t front, CallersTerminal& terminal)
      : root_(root), group_(group), front_(front), terminal_(terminal) {
    ::sigemptyset(&told_);
    ::sigaddset(&told_, SIGCHLD);
    ::sigaddset(&told_, SIGCONT);
    ::sigprocmask(SIG_BLOCK, &told_, nullptr);
  }

  int wait() {
    for (;;) {
      int stopped = 0, status = 0;
      for (pid_t pid; (pid = look(status)) != 0;) {
        if (pid != root_) continue;  // an orphan of it
        if (!WIFSTOPPED(status)) {
          terminal_.take_back();
          return shell_status(status);
        }
        stopped = WSTOPSIG(status);
      }
      if (stopped != 0)
        stop_with_it(stopped);
      else if (::sigwaitinfo(&told_, nullptr) == SIGCONT)
        go_on();
    }
  }

 private:
  pid_t look(int& status) const {
    return static_cast<pid_t>(check(::waitpid(-1, &status, WNOHANG | WUNTRACED), "wait for process {}", root_));
  }

  // When all of our group have been stopped and go on, it may look stopped for a moment longer than we.
  void stop_with_it(int number) {
    if (const pid_t front = terminal_.take_back()) front_ = front;
    if (was_continued()) return go_on();
    ::signal(SIGTSTP, SIG_DFL);
    ::kill(0, SIGTSTP);
    ::signal(SIGTSTP, does_nothing);
    // Without a shell that could continue it nobody is stopped by the keyboard; the job is not, either.
    if (was_continued() || number != SIGSTOP) go_on();
  }

  bool was_continued() const {
    sigset_t continued;
    ::sigemptyset(&continued);
    ::sigaddset(&continued, SIGCONT);
    const timespec now{};
    return ::sigtimedwait(&continued, nullptr, &now) == SIGCONT;
  }

  void go_on() {
    terminal_.hand_over(front_);
    ::kill(group_ == ::getpgrp() ? root_ : -group_, SIGCONT);
  }

  sigset_t told_{};
  pid_t root_, group_, front_;
  CallersTerminal& terminal_;
};

}  // namespace

void leave_keyboard_to_job() {
  for (const int number : {SIGINT, SIGQUIT, SIGTSTP}) ::signal(number, does_nothing);
}

int wait_as_job(pid_t root, pid_t group, pid_t front, CallersTerminal& terminal) {
  return Job(root, group, front, terminal).wait();
}

}  // namespace godwit::engine::commands
