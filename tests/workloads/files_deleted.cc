// Checks: files that were deleted while open: content with holes, offset, mode, two open files of one deleted file, one
// made by O_TMPFILE.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

// CRIU makes what O_TMPFILE made without that flag.
std::string describe(int fd, bool beside_criu) {
  struct stat about{};
  fstat(fd, &about);
  const int flags = fcntl(fd, F_GETFL) & (beside_criu ? ~O_TMPFILE : ~0);
  return "size " + std::to_string(about.st_size) + " mode " + std::to_string(about.st_mode) + " links " +
         std::to_string(about.st_nlink) + " flags " + std::to_string(flags) + " offset " +
         std::to_string(lseek(fd, 0, SEEK_CUR));
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string name = w.path("short-lived");
  const int writer = must(open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640), "open");
  const int reader = must(open(name.c_str(), O_RDONLY), "open");
  must(unlink(name.c_str()), "unlink");
  char content[5000];
  fill(content, sizeof content, 1);
  must(pwrite(writer, content, sizeof content, 200'000), "pwrite");
  must(ftruncate(writer, 300'000), "ftruncate");
  must(lseek(reader, 200'000, SEEK_SET), "lseek");
  const int nameless = must(open(w.path(".").c_str(), O_TMPFILE | O_RDWR, 0600), "O_TMPFILE");
  must(write(nameless, "nameless", 8), "write");
  const int fds[] = {writer, reader, nameless};
  std::string before[3];
  for (int i = 0; i < 3; ++i) before[i] = describe(fds[i], w.beside_criu());

  w.ready();
  w.wait_for_verify();

  for (int i = 0; i < 3; ++i) {
    const std::string now = describe(fds[i], w.beside_criu());
    w.check(now == before[i], "file %d was: %s; and is: %s", i, before[i].c_str(), now.c_str());
  }
  w.check(access(name.c_str(), F_OK) == -1 && errno == ENOENT, "the deleted file is back");
  char got[5000];
  w.check(read(reader, got, sizeof got) == sizeof got && holds(got, sizeof got, 1), "the content changed");
  w.check(lseek(writer, 0, SEEK_DATA) >= 100'000, "the hole is filled");
  w.check(pwrite(writer, "head", 4, 0) == 4 && pread(reader, got, 4, 0) == 4 && std::memcmp(got, "head", 4) == 0,
          "the two open files are not of one file any more");
  w.check(pread(nameless, got, 8, 0) == 8 && std::memcmp(got, "nameless", 8) == 0,
          "the nameless file's content changed");
  return w.finish();
}
