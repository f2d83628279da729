// Checks: eventfds: counters above 32 bits, the greatest counter, semaphores, flags, sharing between descriptors.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::uint64_t greatest = 0xffff'ffff'ffff'fffe;

int with(std::uint64_t counter, int flags) {
  const int fd = must(eventfd(0, flags), "eventfd");
  if (counter != 0) must(eventfd_write(fd, counter), "eventfd_write");
  return fd;
}

std::uint64_t take(int fd) {
  std::uint64_t value = 0;
  return read(fd, &value, 8) == 8 ? value : 0;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  // CRIU restores 32 bits of a counter, and semaphores as counters.
  const bool beside_criu = w.beside_criu();
  const std::uint64_t large = beside_criu ? 0x9abc'def0 : 0x1234'5678'9abc'def0;
  const int big = with(large, EFD_CLOEXEC | EFD_NONBLOCK);
  const int full = with(beside_criu ? 1 : greatest, EFD_NONBLOCK);
  const int semaphore = with(beside_criu ? 1 : 0x1'0000'0003, EFD_SEMAPHORE | EFD_NONBLOCK);
  const int empty = with(0, EFD_NONBLOCK);
  const int blocking = with(1, 0);
  const int same = must(fcntl(big, F_DUPFD, 90), "F_DUPFD");

  const int fds[] = {big, full, semaphore, empty, blocking};
  std::string before[std::size(fds)];
  const auto describe = [](int fd) { return fdinfo(fd, {"flags:", "eventfd-count:", "eventfd-semaphore:"}); };
  for (std::size_t i = 0; i < std::size(fds); ++i) before[i] = describe(fds[i]);

  w.ready();
  w.wait_for_verify();

  if (!w.check(fcntl(big, F_GETFL) == (O_RDWR | O_NONBLOCK) && fcntl(big, F_GETFD) == FD_CLOEXEC &&
                   fcntl(same, F_GETFD) == 0,
               "the flags are %#o/%d", fcntl(big, F_GETFL), fcntl(big, F_GETFD))) {
    return w.finish();  // a read might never end
  }
  for (std::size_t i = 0; i < std::size(fds); ++i) {
    const std::string now = describe(fds[i]);
    w.check(beside_criu || now == before[i], "an eventfd was\n%sand is\n%s", before[i].c_str(), now.c_str());
  }
  const std::uint64_t counter = take(same);
  w.check(counter == large, "the counter is %#llx", static_cast<unsigned long long>(counter));
  w.check(take(big) == 0 && errno == EAGAIN, "the duplicate has a counter of its own");
  if (!beside_criu) {
    w.check(eventfd_write(full, 1) == -1 && errno == EAGAIN, "the full counter takes more: %m");
    w.check(take(full) == greatest, "the full counter is not full");
    w.check(take(semaphore) == 1 && take(semaphore) == 1, "the semaphore does not count by one");
  }
  w.check(fcntl(semaphore, F_GETFL) == (O_RDWR | O_NONBLOCK), "the semaphore's flags are %#o",
          fcntl(semaphore, F_GETFL));
  w.check(take(empty) == 0 && errno == EAGAIN, "the empty counter is not empty");
  w.check(fcntl(blocking, F_GETFL) == O_RDWR && readable(blocking) && take(blocking) == 1,
          "the blocking counter changed");
  pollfd nothing{blocking, POLLIN, 0};
  w.check(poll(&nothing, 1, 0) == 0, "the blocking counter can be read twice");
  return w.finish();
}
