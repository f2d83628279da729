// Checks: named pipes: content, flags, descriptors of either end and of both, and their place in the file system.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

int open_fifo(const std::string& path, int flags) { return must(open(path.c_str(), flags | O_CLOEXEC), path.c_str()); }

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string both_name = w.path("fifo-both");
  const std::string pair_name = w.path("fifo-pair");
  const std::string lone_name = w.path("fifo-lone");
  for (const std::string& name : {both_name, pair_name, lone_name}) must(mkfifo(name.c_str(), 0640), "mkfifo");

  const int both = open_fifo(both_name, O_RDWR);
  char content[5000];
  fill(content, sizeof content, 1);
  must(write(both, content, sizeof content), "write");
  const int reader = open_fifo(pair_name, O_RDONLY | O_NONBLOCK);
  const int writer = open_fifo(pair_name, O_WRONLY);
  must(write(writer, "content", 7), "write");
  const int lone = open_fifo(lone_name, O_RDONLY | O_NONBLOCK);

  w.ready();
  w.wait_for_verify();

  int waiting = 0;
  ioctl(both, FIONREAD, &waiting);
  w.check(waiting == sizeof content, "the fifo has %d bytes in it, not %zu", waiting, sizeof content);
  w.check(readable(both) && read(both, content, sizeof content) == sizeof content && holds(content, sizeof content, 1),
          "the fifo's content changed");
  w.check((fcntl(both, F_GETFL) & O_ACCMODE) == O_RDWR, "the flags are %#o", fcntl(both, F_GETFL));
  char got[16];
  w.check(read(reader, got, sizeof got) == 7 && std::memcmp(got, "content", 7) == 0,
          "the content between two ends changed");
  w.check(read(reader, got, sizeof got) == -1 && errno == EAGAIN, "the reading end: %m");
  w.check(write(writer, "more", 4) == 4 && read(reader, got, sizeof got) == 4,
          "the two ends do not belong together any more");
  close(writer);
  w.check(read(reader, got, sizeof got) == 0, "the fifo does not end: it has another writer");
  w.check(read(lone, got, sizeof got) == 0, "the fifo without a writer: %m");
  const int late_writer = open(lone_name.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  w.check(late_writer >= 0 && write(late_writer, "x", 1) == 1 && read(lone, got, 1) == 1,
          "the fifo is not the one at its path: %m");
  return w.finish();
}
