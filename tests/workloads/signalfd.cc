// Checks: signalfds: mask, flags, signals that wait to be read from them, and that later ones arrive there.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  return set;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const sigset_t both = set_of({SIGUSR1, SIGRTMIN + 1});
  const sigset_t other = set_of({SIGUSR2});
  const sigset_t blocked = set_of({SIGUSR1, SIGUSR2, SIGRTMIN + 1, SIGTERM});
  must(sigprocmask(SIG_SETMASK, &blocked, nullptr), "sigprocmask");
  const int two = must(signalfd(-1, &both, SFD_NONBLOCK | SFD_CLOEXEC), "signalfd");
  const int one = must(signalfd(-1, &other, 0), "signalfd");
  for (int value = 1; value <= 3; ++value) must(sigqueue(getpid(), SIGRTMIN + 1, {.sival_int = value}), "sigqueue");
  kill(getpid(), SIGTERM);  // pending, but in no signalfd

  const std::string masks = fdinfo(two, {"sigmask:"}) + fdinfo(one, {"sigmask:"});

  w.ready();
  w.wait_for_verify();

  if (!w.check(fcntl(two, F_GETFL) == (O_RDWR | O_NONBLOCK) && fcntl(two, F_GETFD) == FD_CLOEXEC &&
                   fcntl(one, F_GETFL) == O_RDWR,
               "the flags are %#o/%d and %#o", fcntl(two, F_GETFL), fcntl(two, F_GETFD), fcntl(one, F_GETFL))) {
    return w.finish();  // a read might never end
  }
  const std::string masks_now = fdinfo(two, {"sigmask:"}) + fdinfo(one, {"sigmask:"});
  w.check(masks_now == masks, "the masks were\n%sand are\n%s", masks.c_str(), masks_now.c_str());
  signalfd_siginfo info{};
  for (int value = 1; value <= 3; ++value) {
    w.check(read(two, &info, sizeof info) == sizeof info && info.ssi_int == value && info.ssi_code == SI_QUEUE,
            "signal %d from the signalfd has value %d", value, info.ssi_int);
  }
  w.check(read(two, &info, sizeof info) == -1 && errno == EAGAIN, "the signalfd has more to read than was sent");
  kill(getpid(), SIGUSR1);
  w.check(read(two, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1,
          "SIGUSR1 is not in the signalfd's mask any more");
  pollfd nothing{one, POLLIN, 0};
  w.check(poll(&nothing, 1, 0) == 0, "the other signalfd is ready");
  kill(getpid(), SIGUSR2);
  w.check(poll(&nothing, 1, 1000) == 1 && read(one, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2,
          "SIGUSR2 is not read");
  sigset_t pending;
  sigpending(&pending);
  w.check(sigismember(&pending, SIGTERM) == 1, "the pending SIGTERM is lost");
  return w.finish();
}
