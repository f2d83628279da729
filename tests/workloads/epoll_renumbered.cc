// Checks: a member of an epoll set whose descriptor was duplicated and closed: it lives on under a number that is not
// open any more, or that belongs to another file by now.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  const int old_number = must(eventfd(0, EFD_NONBLOCK), "eventfd");
  epoll_event first{EPOLLIN, {.u64 = 111}};
  must(epoll_ctl(epoll, EPOLL_CTL_ADD, old_number, &first), "EPOLL_CTL_ADD");
  const int first_now = must(fcntl(old_number, F_DUPFD_CLOEXEC, 60), "F_DUPFD_CLOEXEC");
  close(old_number);
  const int second_now = must(eventfd(0, EFD_NONBLOCK), "eventfd");  // takes the number
  epoll_event second{EPOLLIN, {.u64 = 222}};
  must(epoll_ctl(epoll, EPOLL_CTL_ADD, second_now, &second), "EPOLL_CTL_ADD");

  w.ready();
  w.wait_for_verify();

  epoll_event got[4];
  w.check(epoll_wait(epoll, got, 4, 0) == 0, "a member is ready that is not");
  eventfd_write(first_now, 1);
  w.check(epoll_wait(epoll, got, 4, 0) == 1 && got[0].data.u64 == 111, "the member with the closed number is lost");
  eventfd_write(second_now, 1);
  w.check(epoll_wait(epoll, got, 4, 0) == 2, "the member with the reused number is lost");
  return w.finish();
}
