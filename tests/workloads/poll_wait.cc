// Checks: poll, ppoll, select and pselect, with and without timeout: no EINTR, the right length, the right event.

#include "tests/workloads/waits.h"

#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sys/select.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = Waits::seconds;

struct Pipe {
  int ends[2];
  Pipe() { must(pipe2(ends, O_CLOEXEC), "pipe2"); }
};

// Each returns the number of ready descriptors, or -1000 when the reported event is wrong.
long by_poll(int fd, int timeout_ms) {
  pollfd asked{fd, POLLIN, 0};
  const int ready = poll(&asked, 1, timeout_ms);
  return ready == 1 && asked.revents != POLLIN ? -1000 : ready;
}

long by_ppoll(int fd, const timespec* timeout) {
  pollfd asked{fd, POLLIN, 0};
  sigset_t mask;
  sigfillset(&mask);
  const int ready = ppoll(&asked, 1, timeout, &mask);
  return ready == 1 && asked.revents != POLLIN ? -1000 : ready;
}

long by_select(int fd, timeval* timeout) {
  fd_set asked;
  FD_ZERO(&asked);
  FD_SET(fd, &asked);
  const int ready = select(fd + 1, &asked, nullptr, nullptr, timeout);
  return ready == 1 && !FD_ISSET(fd, &asked) ? -1000 : ready;
}

long by_pselect(int fd, const timespec* timeout) {
  fd_set asked;
  FD_ZERO(&asked);
  FD_SET(fd, &asked);
  sigset_t mask;
  sigfillset(&mask);
  const int ready = pselect(fd + 1, &asked, nullptr, nullptr, timeout, &mask);
  return ready == 1 && !FD_ISSET(fd, &asked) ? -1000 : ready;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const Pipe quiet;
  const Pipe later;
  const int silent = quiet.ends[0];
  const int fd = later.ends[0];
  Waits waits;
  waits.endless.emplace_back("poll", [=] { return by_poll(fd, -1); });
  waits.endless.emplace_back("ppoll", [=] { return by_ppoll(fd, nullptr); });
  waits.endless.emplace_back("select", [=] { return by_select(fd, nullptr); });
  waits.endless.emplace_back("pselect", [=] { return by_pselect(fd, nullptr); });
  waits.endless.emplace_back("poll with a very long timeout", [=] { return by_poll(fd, 3600'000); });
  waits.timed.emplace_back("poll with a timeout", [=] { return by_poll(silent, seconds * 1000); });
  waits.timed.emplace_back("ppoll with a timeout", [=] {
    const timespec timeout{seconds, 0};
    return by_ppoll(silent, &timeout);
  });
  waits.timed.emplace_back("select with a timeout", [=] {
    timeval timeout{seconds, 0};
    return by_select(silent, &timeout);
  });
  waits.timed.emplace_back("pselect with a timeout", [=] {
    const timespec timeout{seconds, 0};
    return by_pselect(silent, &timeout);
  });
  waits.across_the_move(w, [&] { w.check(write(later.ends[1], "x", 1) == 1, "write to the pipe: %m"); });
  return w.finish();
}
