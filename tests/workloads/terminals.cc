// Checks: pseudo terminals: settings, size, modes and owner of each, flags of their descriptors, what is queued in both
// directions: lines, one that is still being typed, raw bytes, what was not read by the master; stopped output; closed
// and never opened slaves.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Pair {
  int master, slave;
  std::string name;
};

Pair make(int flags = 0) {
  Pair p{must(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), "open /dev/ptmx"), -1, {}};
  must(unlockpt(p.master), "unlockpt");
  p.name = ptsname(p.master);
  p.slave = must(open(p.name.c_str(), O_RDWR | O_NOCTTY | flags), "open a slave");
  return p;
}

termios settings_of(int fd) {
  termios t{};
  must(tcgetattr(fd, &t), "tcgetattr");
  return t;
}

void set_raw(const Pair& p) {
  termios t = settings_of(p.slave);
  cfmakeraw(&t);
  must(tcsetattr(p.slave, TCSANOW, &t), "tcsetattr");
}

void no_echo(const Pair& p) {
  termios t = settings_of(p.slave);
  t.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  must(tcsetattr(p.slave, TCSANOW, &t), "tcsetattr");
}

void put(int fd, const std::string& text) {
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) give_up("write to a terminal");
}

// One read; "nothing" when there is nothing.
std::string get(int fd) {
  char text[8192];
  if (!readable(fd)) return "nothing";
  const ssize_t n = read(fd, text, sizeof text);
  return n < 0 ? std::string("error: ") + strerror(errno) : std::string(text, static_cast<std::size_t>(n));
}

std::string all(int fd, std::size_t size) {
  std::string found;
  while (found.size() < size) {
    const std::string more = get(fd);
    if (more == "nothing") break;
    found += more;
  }
  return found;
}

int flag(int fd, unsigned long request) {
  int on = -1;
  ioctl(fd, request, &on);
  return on;
}

short polled(int fd, short events) {
  pollfd poll{fd, events, 0};
  ::poll(&poll, 1, 0);
  return poll.revents;
}

// What was written: a worker of the kernel's does it, at some time, unless somebody asks for it. Then its echo.
void take_in(const Pair& p) {
  polled(p.slave, POLLIN);
  polled(p.master, POLLIN);
}

std::string numbers(std::size_t size) {
  std::string text(size, 0);
  fill(text.data(), size, size);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);

  const Pair set = make(O_NONBLOCK);
  const int reader = must(open(set.name.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC), "open a slave again");
  termios wanted = settings_of(set.slave);
  wanted.c_iflag |= IXANY | IUTF8;
  wanted.c_lflag &= ~static_cast<tcflag_t>(ECHOE);
  wanted.c_cc[VINTR] = 7;
  must(tcsetattr(set.slave, TCSANOW, &wanted), "tcsetattr");
  wanted = settings_of(set.slave);
  const winsize size{33, 111, 5, 6};
  must(ioctl(set.slave, TIOCSWINSZ, &size), "TIOCSWINSZ");
  must(fchmod(set.slave, 0604), "fchmod");
  must(ioctl(set.slave, TIOCEXCL), "TIOCEXCL");
  must(fcntl(set.master, F_SETOWN, getpid()), "F_SETOWN");
  const std::string owner = owner_of(set.master);

  // Lines: one with a quoted newline in it, one that was ended by EOF, an empty one that was, and one being typed.
  const Pair lines = make();
  no_echo(lines);
  put(lines.master, "first\nsec\x16\x04ond\nended\x04\x04typed");
  const Pair raw = make();
  set_raw(raw);
  put(raw.master, numbers(3000));
  const Pair full = make();
  set_raw(full);
  put(full.slave, numbers(4000));
  put(full.slave, numbers(3000));

  const Pair echoed = make();
  put(echoed.master, "abc");
  const Pair packets = make();
  const int on = 1;
  put(packets.slave, "packet");
  must(ioctl(packets.master, TIOCPKT, &on), "TIOCPKT");
  const Pair locked = make();
  must(ioctl(locked.master, TIOCSPTLCK, &on), "TIOCSPTLCK");
  const Pair stopped = make();
  put(stopped.master, "\x13");
  const Pair halted = make();
  must(tcflow(halted.slave, TCOOFF), "tcflow");
  const Pair closed = make();
  set_raw(closed);
  put(closed.slave, "last words");
  close(closed.slave);
  const int alone = must(open("/dev/ptmx", O_RDWR | O_NOCTTY), "open /dev/ptmx");
  for (const Pair* p : {&set, &lines, &raw, &full, &echoed, &packets, &stopped}) take_in(*p);

  w.ready();
  w.wait_for_verify();

  w.check(ptsname(set.master) && ptsname(set.master) == set.name, "the first terminal has another name");
  w.check(isatty(reader) && ttyname(reader) && ttyname(reader) == set.name, "its slave has another name");
  const termios found = settings_of(set.slave);
  w.check(memcmp(&found, &wanted, sizeof found) == 0, "the settings changed");
  winsize now{};
  ioctl(set.slave, TIOCGWINSZ, &now);
  w.check(memcmp(&now, &size, sizeof now) == 0, "the size is %d x %d", now.ws_row, now.ws_col);
  struct stat st{};
  fstat(set.slave, &st);
  w.check((st.st_mode & 0777) == 0604, "the mode is %o", st.st_mode & 0777);
  w.check(flag(set.slave, TIOCGEXCL) == 1 && flag(raw.slave, TIOCGEXCL) == 0, "exclusive use changed");
  w.check((fcntl(set.slave, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(reader, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == 0,
          "the flags of the slaves changed");
  w.check(fcntl(reader, F_GETFD) == FD_CLOEXEC, "the slave is not closed on exec any more");
  w.check(owner_of(set.master) == owner, "SIGIO goes elsewhere");

  w.check(get(lines.slave) == "first\n", "the first line is lost");
  const std::string second = get(lines.slave);
  w.check(second == "sec\x04ond\n", "the second line is: %s", second.c_str());
  const std::string ended = get(lines.slave);
  w.check(ended == "ended", "the line that EOF ended is: %s", ended.c_str());
  w.check(get(lines.slave).empty(), "the EOF is lost");
  w.check(!(polled(lines.slave, POLLIN) & POLLIN), "the line that is being typed has ended");
  put(lines.master, "\x7f!\n");
  const std::string typed = get(lines.slave);
  w.check(typed == "type!\n", "the line that was being typed is: %s", typed.c_str());
  w.check(all(raw.slave, 3000) == numbers(3000), "the raw bytes changed");
  w.check(all(full.master, 7000) == numbers(4000) + numbers(3000), "what the master had not read changed");
  const std::string echo = get(echoed.master);
  w.check(echo == "abc", "the echo is: %s", echo.c_str());

  w.check(flag(packets.master, TIOCGPKT) == 1, "packet mode is off");
  const std::string packet = get(packets.master);
  w.check(packet == std::string("\0packet", 7), "the packet is: %s", packet.c_str());
  w.check(flag(locked.master, TIOCGPTLCK) == 1 && flag(set.master, TIOCGPTLCK) == 0, "the lock changed");
  w.check(!(polled(stopped.slave, POLLOUT) & POLLOUT), "Ctrl-S is forgotten");
  put(stopped.master, "\x11");
  w.check(w.wait_until([&] { return (polled(stopped.slave, POLLOUT) & POLLOUT) != 0; }), "Ctrl-Q does nothing");
  w.check(!(polled(halted.slave, POLLOUT) & POLLOUT), "the halt is forgotten");
  tcflow(halted.slave, TCOON);
  w.check((polled(halted.slave, POLLOUT) & POLLOUT) != 0, "the halt cannot be undone");
  w.check((polled(closed.master, POLLIN) & POLLHUP) != 0, "the closed slave is open");
  w.check(get(closed.master) == "last words", "the last words of the closed slave are lost");
  w.check(polled(alone, POLLIN) == 0, "the slave that nobody has opened was closed");
  return w.finish();
}
