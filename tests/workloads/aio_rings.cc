// Checks: contexts of native AIO: where their rings are and stand, completed requests that nobody has fetched, in one
// piece and around the end of a ring, who waits for one, how many requests there is room for, and one that is in use.

#include "tests/workloads/blocked_call.h"

#include <array>
#include <cstring>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <list>
#include <sched.h>
#include <string>
#include <sys/syscall.h>
#include <vector>

using namespace godwit::workloads;

namespace {

struct Ring {  // as in fs/aio.c
  std::uint32_t id, capacity, head, tail;
};

class Context {
 public:
  Context(int file, unsigned requests) : file_(file) { must(syscall(SYS_io_setup, requests, &id_), "io_setup"); }

  const Ring& ring() const { return *reinterpret_cast<const Ring*>(id_); }

  // Reads of eight bytes each, which are over at once; the number of the first.
  long submit(std::uint64_t number, std::size_t count) {
    std::vector<iocb> requests(count);
    std::vector<iocb*> list;
    for (iocb& r : requests) {
      r.aio_data = mix(number++);
      r.aio_lio_opcode = IOCB_CMD_PREAD;
      r.aio_fildes = static_cast<std::uint32_t>(file_);
      r.aio_buf = reinterpret_cast<std::uintptr_t>(&word_);
      r.aio_nbytes = sizeof word_;
      list.push_back(&r);
    }
    const long submitted = syscall(SYS_io_submit, id_, count, list.data());
    explicit_bzero(requests.data(), count * sizeof(iocb));  // what is in the images then is in the ring only
    return submitted;
  }

  // Whether the next events are those of the requests from `number` on.
  bool fetch(std::uint64_t number, std::size_t count) {
    std::vector<io_event> events(count);
    if (wait(count, events.data(), 0) != static_cast<long>(count)) return false;
    for (const io_event& e : events)
      if (e.data != mix(number++) || e.res != sizeof word_) return false;
    return true;
  }

  long wait(std::size_t count, io_event* events, time_t seconds) const {
    timespec limit{seconds, 0};
    return syscall(SYS_io_getevents, id_, count, count, events, &limit);
  }

  // As many requests as there is room for on this CPU.
  std::size_t fill_up(std::uint64_t number) {
    std::size_t count = 0;
    while (submit(number + count, 1) == 1) count++;
    return count;
  }
  std::size_t room() {
    const std::size_t count = fill_up(0);
    return fetch(0, count) ? count : 0;
  }

 private:
  aio_context_t id_ = 0;
  int file_;
  std::uint64_t word_ = 0;
};

void stay_on_one_cpu() {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
  must(sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
}

struct Position {
  explicit Position(const Context& c) : head(c.ring().head), tail(c.ring().tail) {}
  std::uint32_t head, tail;
};

void check_position(Workload& w, const Context& c, const Position& before, const char* name) {
  const Position now(c);
  w.check(now.head == before.head && now.tail == before.tail, "the %s ring was at %u-%u and is at %u-%u", name,
          before.head, before.tail, now.head, now.tail);
}

// They are there, and take up places: there is not more room for others than the ring has.
void check_unfetched(Workload& w, Context& c, std::uint64_t number, std::size_t count, const char* name) {
  const std::size_t others = c.fill_up(5000);
  w.check(c.fetch(number, count), "completed requests of the %s ring were lost", name);
  w.check(others > 0 && c.fetch(5000, others), "of %zu more requests of the %s ring, some were lost", others, name);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  stay_on_one_cpu();
  const std::string path = w.path("file");
  write_file(path, "eight by");
  const int file = must(open(path.c_str(), O_RDONLY | O_CLOEXEC), "open");

  Context fresh(file, 1), kept(file, 20), wrapped(file, 20), used(file, 500), awaited(file, 4), large(file, 3000);
  // In one piece, after some that have been fetched.
  must(kept.submit(1000, 10), "io_submit");
  if (!kept.fetch(1000, 3)) give_up("io_getevents");
  // Around the end of the ring.
  const std::size_t capacity = wrapped.ring().capacity;
  for (std::size_t i = 0; i < capacity - 4; i++)
    if (wrapped.submit(i, 1) != 1 || !wrapped.fetch(i, 1)) give_up("io_getevents");
  must(wrapped.submit(2000, 9), "io_submit");
  must(large.submit(3000, 700), "io_submit");
  const std::size_t room = fresh.room();
  const Position fresh_before(fresh), kept_before(kept), wrapped_before(wrapped), large_before(large);

  std::array<io_event, 2> awaited_events{};
  // For CRIU a wait is over when it is interrupted.
  std::list<BlockedCall> waiters;
  if (!w.beside_criu())
    waiters.emplace_back("io_getevents", [&] { return awaited.wait(2, awaited_events.data(), 3600); });
  for (const BlockedCall& waiter : waiters) waiter.settle();

  w.ready();
  std::uint64_t number = 0;
  w.wait_for_verify([&] {
    for (const std::size_t count : {1, 7, 64}) {
      w.check(used.submit(number, count) == static_cast<long>(count) && used.fetch(number, count),
              "of the ring in use, requests from %llu on were lost", static_cast<unsigned long long>(number));
      number += count;
    }
  });

  check_position(w, fresh, fresh_before, "fresh");
  check_position(w, kept, kept_before, "kept");
  check_position(w, wrapped, wrapped_before, "wrapped");
  check_position(w, large, large_before, "large");
  check_unfetched(w, kept, 1003, 7, "kept");
  check_unfetched(w, wrapped, 2000, 9, "wrapped");
  check_unfetched(w, large, 3000, 700, "large");
  // A part of the places may be set aside for another CPU.
  for (Context* c : {&fresh, &kept, &wrapped}) {
    const std::size_t now = c->room();
    w.check(now >= 20 && now <= room, "there was room for %zu requests and is for %zu", room, now);
  }
  for (const BlockedCall& waiter : waiters) {
    waiter.still_blocked(w);
    w.check(awaited.submit(5, 2) == 2, "io_submit: %m");
    waiter.comes_back(w, 2);
    w.check(awaited_events[0].data == mix(5) && awaited_events[1].data == mix(6), "who waited got other events");
  }
  return w.finish();
}
