// Checks: a session on a pseudo terminal whose master its parent holds: controlling terminals, also of those without a
// descriptor of it, the group in the foreground and one in the background, /dev/tty, signals from the keyboard.

#include "tests/workloads/children.h"

#include <csignal>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

volatile sig_atomic_t interrupts = 0, resizes = 0, background_writes = 0;

void catch_signals() {
  struct sigaction action{};
  action.sa_handler = [](int signal) {
    volatile sig_atomic_t& count = signal == SIGINT ? interrupts : signal == SIGWINCH ? resizes : background_writes;
    count = count + 1;
  };
  for (const int signal : {SIGINT, SIGWINCH, SIGTTOU}) must(sigaction(signal, &action, nullptr), "sigaction");
}

bool has_terminal() {
  const int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

// Takes part in the session, in its own group, with no descriptor of the terminal.
void be_member(Workload& w, const std::string& name, bool in_foreground) {
  catch_signals();
  w.expect_interrupts();
  must(setpgid(0, 0), "setpgid");
  w.tell((name + "-is-there").c_str(), std::to_string(getpid()));
  settled(w, name);
  w.wait_for_verify();
  w.check(resizes == 0, "it was told of a new size");
  const int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  w.check(fd >= 0, "it has no controlling terminal any more: %m");
  const pid_t front = tcgetpgrp(fd);
  w.check((front == getpgrp()) == in_foreground, "the group in the foreground is %d, this one is %d", front, getpgrp());
  await(w, "interrupted");
  if (in_foreground)
    w.check(w.wait_until([] { return interrupts == 1; }), "Ctrl-C did not come");
  else
    w.check(interrupts == 0, "Ctrl-C came to the background");
  if (!in_foreground) {
    tcsetpgrp(fd, getpgrp());  // SIGTTOU, whose handler returns
    w.check(background_writes > 0, "the background is allowed to take the terminal");
  }
  close(fd);
}

void be_leader(Workload& w, const std::string& name) {
  must(setsid(), "setsid");
  catch_signals();
  w.expect_interrupts();
  const int slave = must(open(name.c_str(), O_RDWR), "open the slave");
  const int current = must(open("/dev/tty", O_RDWR | O_CLOEXEC), "open /dev/tty");
  const Child front = start_child(w, "front", 2, [&] { be_member(w, "front", true); });
  const Child back = start_child(w, "back", 3, [&] { be_member(w, "back", false); });
  const Child without = start_child(w, "without", 4, [&] {
    must(ioctl(slave, TIOCNOTTY), "TIOCNOTTY");
    settled(w, "without");
    w.wait_for_verify();
    w.check(!has_terminal(), "it has a controlling terminal");
  });
  for (const char* member : {"front", "back", "without"}) await_settled(w, member);
  signal(SIGTTOU, SIG_IGN);
  must(tcsetpgrp(slave, front.pid), "tcsetpgrp");
  close(slave);
  settled(w, "leader");

  w.wait_for_verify();
  struct stat st{};
  fstat(current, &st);
  w.check(st.st_rdev == 0x500 && tcgetsid(current) == getpid(), "/dev/tty is the terminal of %d", tcgetsid(current));
  w.check(tcgetpgrp(current) == front.pid, "the group in the foreground is %d", tcgetpgrp(current));
  w.check(interrupts == 0 && resizes == 0, "it got a signal");
  w.tell("leader-checked", "");
  await(w, "interrupted");
  for (const Child& child : {front, back, without}) check_end(w, child);
  close(current);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int master = must(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), "open /dev/ptmx");
  must(unlockpt(master), "unlockpt");
  const winsize size{20, 70, 0, 0};
  must(ioctl(master, TIOCSWINSZ, &size), "TIOCSWINSZ");
  const std::string name = ptsname(master);
  const Child leader = start_child(w, "leader", 1, [&] { be_leader(w, name); });
  await_settled(w, "leader");
  w.ready();
  w.wait_for_verify();
  await(w, "leader-checked");
  w.check(write(master, "\x03", 1) == 1, "the master takes nothing: %m");
  w.check(readable(master), "Ctrl-C is not echoed");
  w.tell("interrupted", "");
  check_end(w, leader);
  return w.finish();
}
