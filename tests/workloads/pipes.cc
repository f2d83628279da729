// Checks: pipes: content, size, packets, flags of each end, both ends or one end open, several descriptors of an end.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

struct Pipe {
  int read_end, write_end;
};

Pipe make(int flags = 0) {
  int ends[2];
  must(pipe2(ends, flags), "pipe2");
  return {ends[0], ends[1]};
}

void put(int fd, std::size_t size, std::uint64_t seed) {
  std::vector<char> content(size);
  fill(content.data(), size, seed);
  if (write(fd, content.data(), size) != static_cast<ssize_t>(size)) give_up("write to a pipe");
}

bool get(int fd, std::size_t size, std::uint64_t seed) {
  std::vector<char> content(size);
  std::size_t have = 0;
  while (have < size) {
    const ssize_t got = readable(fd) ? read(fd, &content[have], size - have) : -1;
    if (got <= 0) return false;
    have += static_cast<std::size_t>(got);
  }
  return holds(content.data(), size, seed);
}

int waiting(int fd) {
  int bytes = -1;
  ioctl(fd, FIONREAD, &bytes);
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  const Pipe empty = make(O_CLOEXEC);
  const Pipe some = make(O_NONBLOCK);
  put(some.write_end, 1000, 1);
  put(some.write_end, 20'000, 2);
  const Pipe part_read = make();
  put(part_read.write_end, 9000, 3);
  char skipped[512];
  must(read(part_read.read_end, skipped, sizeof skipped), "read");
  const Pipe big = make();
  must(fcntl(big.write_end, F_SETPIPE_SZ, 512 * 1024), "F_SETPIPE_SZ");
  put(big.write_end, 512 * 1024, 4);
  const Pipe small = make();
  must(fcntl(small.write_end, F_SETPIPE_SZ, 4096), "F_SETPIPE_SZ");
  const bool with_packets = !w.beside_criu();
  const Pipe packets = with_packets ? make(O_DIRECT) : Pipe{-1, -1};
  const std::vector<std::size_t> packet_sizes =
      with_packets ? std::vector<std::size_t>{10, 4096, 1, 300} : std::vector<std::size_t>{};
  for (const std::size_t size : packet_sizes) put(packets.write_end, size, size);
  const Pipe no_writer = make();
  put(no_writer.write_end, 777, 5);
  close(no_writer.write_end);
  const Pipe no_reader = make();
  close(no_reader.read_end);
  const Pipe mixed = make();
  const int second_writer = must(fcntl(mixed.write_end, F_DUPFD_CLOEXEC, 150), "F_DUPFD_CLOEXEC");
  must(fcntl(mixed.read_end, F_SETFL, O_NONBLOCK), "F_SETFL");  // only this end
  // Each end opened once more: other descriptions of the same pipe.
  const int reopened =
      must(open(("/proc/self/fd/" + std::to_string(mixed.read_end)).c_str(), O_RDONLY | O_CLOEXEC), "open");

  must(fcntl(mixed.read_end, F_SETOWN, getpid()), "F_SETOWN");
  must(fcntl(mixed.read_end, F_SETSIG, SIGRTMIN + 1), "F_SETSIG");
  const std::string owner = owner_of(mixed.read_end);

  const int sizes[] = {fcntl(empty.read_end, F_GETPIPE_SZ), fcntl(big.read_end, F_GETPIPE_SZ),
                       fcntl(small.read_end, F_GETPIPE_SZ)};

  w.ready();
  w.wait_for_verify();

  w.check(fcntl(empty.read_end, F_GETPIPE_SZ) == sizes[0] && fcntl(big.read_end, F_GETPIPE_SZ) == sizes[1] &&
              fcntl(small.read_end, F_GETPIPE_SZ) == sizes[2],
          "the sizes are %d, %d, %d, were %d, %d, %d", fcntl(empty.read_end, F_GETPIPE_SZ),
          fcntl(big.read_end, F_GETPIPE_SZ), fcntl(small.read_end, F_GETPIPE_SZ), sizes[0], sizes[1], sizes[2]);
  w.check(waiting(empty.read_end) == 0 && fcntl(empty.read_end, F_GETFD) == FD_CLOEXEC, "the empty pipe changed");
  char few[10];
  fill(few, sizeof few, 6);
  w.check(write(empty.write_end, few, sizeof few) == sizeof few && get(empty.read_end, sizeof few, 6),
          "the empty pipe's ends do not belong together any more");
  w.check(waiting(some.read_end) == 21'000 && get(some.read_end, 1000, 1) && get(some.read_end, 20'000, 2),
          "the content changed");
  w.check((fcntl(some.read_end, F_GETFL) & O_NONBLOCK) != 0 && read(some.read_end, skipped, 1) == -1 && errno == EAGAIN,
          "the pipe is not O_NONBLOCK any more, or has more in it");
  std::vector<char> rest(9000 - sizeof skipped);
  w.check(readable(part_read.read_end) &&
              read(part_read.read_end, rest.data(), rest.size()) == static_cast<ssize_t>(rest.size()) &&
              holds(rest.data(), rest.size(), 3 + sizeof skipped),
          "the half-read pipe's content changed");
  w.check(get(big.read_end, 512 * 1024, 4), "the big pipe's content changed");
  for (const std::size_t size : packet_sizes) {
    char packet[4096];
    const ssize_t got = readable(packets.read_end) ? read(packets.read_end, packet, sizeof packet) : -1;
    w.check(got == static_cast<ssize_t>(size) && holds(packet, size, size), "a packet of %zu bytes came as %zd bytes",
            size, got);
  }
  w.check(!with_packets || (fcntl(packets.write_end, F_GETFL) & O_DIRECT) != 0,
          "the packet pipe became an ordinary one");
  w.check(get(no_writer.read_end, 777, 5) && readable(no_writer.read_end) && read(no_writer.read_end, skipped, 1) == 0,
          "the pipe without a writer does not end");
  w.check(write(no_reader.write_end, "x", 1) == -1 && errno == EPIPE, "the pipe without a reader takes data: %m");
  w.check((fcntl(mixed.read_end, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(reopened, F_GETFL) & O_NONBLOCK) == 0 &&
              (fcntl(mixed.write_end, F_GETFL) & O_NONBLOCK) == 0,
          "the flags of the ends changed");
  w.check(owner_of(mixed.read_end) == owner, "the owner was: %s; and is: %s", owner.c_str(),
          owner_of(mixed.read_end).c_str());
  w.check(write(second_writer, "ab", 2) == 2 && readable(reopened) && read(reopened, skipped, 1) == 1 &&
              skipped[0] == 'a' && read(mixed.read_end, skipped, 1) == 1 && skipped[0] == 'b',
          "the duplicated ends do not belong together any more");
  return w.finish();
}
