// Checks: epoll sets: members with their events and keys, level and edge triggering, one-shot members that have fired,
// exclusive ones, nesting, polling of devices, members under high numbers, and events that nobody has fetched.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <fcntl.h>
#include <map>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

int make() { return must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"); }
int event() { return must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"); }

void add(int epoll, int fd, std::uint32_t events, std::uint64_t key) {
  epoll_event e{events, {.u64 = key}};
  must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e), "EPOLL_CTL_ADD");
}

// What is ready now: key -> events.
std::map<std::uint64_t, std::uint32_t> fetch(int epoll) {
  epoll_event events[16];
  const int count = epoll_wait(epoll, events, 16, 0);
  std::map<std::uint64_t, std::uint32_t> ready;
  for (int i = 0; i < count; ++i) ready[events[i].data.u64] = events[i].events;
  return ready;
}

// How devices are polled while nothing is ready, 6.9+. 0: by default, or not known here.
std::uint64_t polling(int epoll) {
  std::uint64_t parameters = 0;  // struct epoll_params
  ioctl(epoll, _IOC(_IOC_READ, 0x8a, 2, 8) /* EPIOCGPARAMS */, &parameters);
  return parameters;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int level = make();
  const int quiet = event(), loud = event(), both = event();
  must(eventfd_write(loud, 1), "eventfd_write");
  add(level, quiet, EPOLLIN | EPOLLRDHUP | EPOLLPRI, 0xaaaa'bbbb'cccc'dddd);
  add(level, loud, EPOLLIN, 2);
  add(level, both, EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE, 3);
  const int high = must(fcntl(event(), F_DUPFD_CLOEXEC, 180), "F_DUPFD_CLOEXEC");
  add(level, high, EPOLLIN, 4);

  const int edge = make();
  const int edged = event(), unfetched = event();
  add(edge, edged, EPOLLIN | EPOLLET, 5);
  add(edge, unfetched, EPOLLIN | EPOLLET, 6);
  must(eventfd_write(unfetched, 1), "eventfd_write");

  const int once = make();
  const int fired = event(), armed = event();
  add(once, fired, EPOLLIN | EPOLLONESHOT, 7);
  must(eventfd_write(fired, 1), "eventfd_write");
  if (fetch(once).size() != 1) give_up("epoll_wait");
  add(once, armed, EPOLLIN | EPOLLONESHOT, 8);

  const int outer = make(), inner = make();
  const int deep = event();
  add(inner, deep, EPOLLIN, 9);
  add(outer, inner, EPOLLIN, 10);
  const int empty = make();
  int ends[2];
  must(pipe2(ends, O_CLOEXEC), "pipe2");
  add(empty, ends[1], 0, 11);  // waits for errors only

  const std::uint64_t parameters = 1ull << 48 | 8ull << 32 | 100;  // prefer it; at most 8 packets, 100 microseconds
  ioctl(level, _IOC(_IOC_WRITE, 0x8a, 1, 8) /* EPIOCSPARAMS */, &parameters);
  const std::uint64_t polls = polling(level);

  const int sets[] = {level, edge, once, outer, inner, empty};
  const auto describe = [](int fd) {
    std::string members = fdinfo(fd, {"tfd:"});
    // Adding a member always asks for EPOLLERR and EPOLLHUP; only a shot that is fired takes them away.
    const std::string made_anew = "events: 40000018", fired = "events: 40000000";
    for (std::size_t at; (at = members.find(made_anew)) != members.npos;) members.replace(at, fired.size(), fired);
    return members;
  };
  std::string before[std::size(sets)];
  for (std::size_t i = 0; i < std::size(sets); ++i) before[i] = describe(sets[i]);

  w.ready();
  w.wait_for_verify();

  using Ready = std::map<std::uint64_t, std::uint32_t>;
  w.check(fcntl(level, F_GETFD) == FD_CLOEXEC, "FD_CLOEXEC changed");
  w.check(w.beside_criu() || polling(level) == polls, "devices are polled by %#lx, not %#lx", polling(level), polls);
  for (std::size_t i = 0; i < std::size(sets); ++i) {
    const std::string now = describe(sets[i]);
    w.check(now == before[i], "a set was\n%sand is\n%s", before[i].c_str(), now.c_str());
  }
  w.check(fetch(level) == Ready{{2, EPOLLIN}, {3, EPOLLOUT}}, "other members are ready than should be");
  w.check(fetch(level) == Ready{{2, EPOLLIN}, {3, EPOLLOUT}}, "a level-triggered member fires once only");
  eventfd_write(quiet, 1);
  eventfd_write(high, 1);
  eventfd_write(both, 1);
  w.check(fetch(level) == Ready{{0xaaaa'bbbb'cccc'dddd, EPOLLIN}, {2, EPOLLIN}, {3, EPOLLIN | EPOLLOUT}, {4, EPOLLIN}},
          "members that become ready are not seen, or have another key");

  const Ready first_edges = fetch(edge);
  w.check(first_edges.contains(6), "an edge that nobody had fetched is lost");
  w.check(!first_edges.contains(5), "an edge is reported that never was");
  w.check(fetch(edge).empty(), "edge-triggered members became level-triggered");
  eventfd_write(edged, 1);
  w.check(fetch(edge) == Ready{{5, EPOLLIN}} && fetch(edge).empty(), "a new edge is not seen once");

  w.check(fetch(once).empty(), "a one-shot member that has fired fires again");
  eventfd_write(armed, 1);
  w.check(fetch(once) == Ready{{8, EPOLLIN}} && fetch(once).empty(), "the armed one-shot member does not fire once");
  epoll_event again{EPOLLIN | EPOLLONESHOT, {.u64 = 77}};
  w.check(epoll_ctl(once, EPOLL_CTL_MOD, fired, &again) == 0, "the one-shot member that has fired is gone: %m");
  w.check(fetch(once) == Ready{{77, EPOLLIN}}, "the one-shot member cannot be armed again");

  w.check(fetch(outer).empty(), "the nested set is ready too early");
  eventfd_write(deep, 1);
  w.check(fetch(outer) == Ready{{10, EPOLLIN}} && fetch(inner) == Ready{{9, EPOLLIN}}, "the nested set is not seen");
  w.check(fetch(empty).empty(), "the pipe's writing end is ready");
  close(ends[0]);
  w.check(fetch(empty) == Ready{{11, EPOLLERR}}, "an error is not seen");
  epoll_event twice{EPOLLIN, {}};
  w.check(epoll_ctl(level, EPOLL_CTL_ADD, quiet, &twice) == -1 && errno == EEXIST, "a member can be added twice");
  return w.finish();
}
