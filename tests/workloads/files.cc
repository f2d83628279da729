// Checks: descriptors of regular files, directories and stateless devices: numbers, offsets, flags, sharing of one
// description between descriptors, O_PATH, O_APPEND, owners for SIGIO.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstdio>
#include <csignal>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

std::string describe(int fd) {
  char target[4096] = {};
  static_cast<void>(!readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target - 1));
  const int flags = fcntl(fd, F_GETFL);
  char text[4400];
  std::snprintf(text, sizeof text, "%d: %s flags %#o/%d offset %ld owner: %s", fd, target, flags, fcntl(fd, F_GETFD),
                lseek(fd, 0, SEEK_CUR), owner_of(fd).c_str());
  return text;
}

int open_at(const std::string& path, int flags, int number = -1) {
  const int fd = must(open(path.c_str(), flags, 0644), path.c_str());
  if (number < 0) return fd;
  must(dup3(fd, number, flags & O_CLOEXEC), "dup3");
  close(fd);
  return number;
}

std::vector<std::string> rest_of(DIR* directory) {
  std::vector<std::string> names;
  while (const dirent* entry = readdir(directory)) names.emplace_back(entry->d_name);
  return names;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string name = w.path("a file\twith an (odd) name");
  std::string content(100'000, 0);
  fill(content.data(), content.size(), 1);
  write_file(name, content);
  const std::string directory = w.path("directory");
  must(mkdir(directory.c_str(), 0755), "mkdir");
  for (int i = 0; i < 10; ++i) write_file(directory + "/" + std::to_string(i), "x");

  const int reading = open_at(name, O_RDONLY);
  must(lseek(reading, 54'321, SEEK_SET), "lseek");
  const int writing = open_at(name, O_RDWR | O_CLOEXEC | O_NOATIME, 200);
  must(lseek(writing, 5'000'000'000, SEEK_SET), "lseek");
  const int shared = must(fcntl(reading, F_DUPFD_CLOEXEC, 100), "F_DUPFD_CLOEXEC");
  const int apart = open_at(name, O_RDONLY | O_NONBLOCK, 201);
  const int appending = open_at(w.path("appended"), O_WRONLY | O_CREAT | O_APPEND | O_DSYNC);
  must(write(appending, "before ", 7), "write");
  const int path_only = open_at(name, O_PATH | O_CLOEXEC);
  const int path_directory = open_at(directory, O_PATH | O_DIRECTORY);
  const int link_itself = [&] {
    must(symlink("nowhere", w.path("link").c_str()), "symlink");
    return open_at(w.path("link"), O_PATH | O_NOFOLLOW);
  }();
  const int owned = open_at(w.path("owned"), O_RDWR | O_CREAT);
  must(fcntl(owned, F_SETOWN, getpid()), "F_SETOWN");
  must(fcntl(owned, F_SETSIG, SIGRTMIN + 1), "F_SETSIG");
  const int null = open_at("/dev/null", O_RDWR | O_CLOEXEC, 300);
  const int zero = open_at("/dev/zero", O_RDONLY);
  const int full = open_at("/dev/full", O_WRONLY);
  const int random = open_at("/dev/urandom", O_RDONLY | O_NONBLOCK);
  DIR* const listing = opendir(directory.c_str());
  for (int i = 0; i < 5; ++i) readdir(listing);
  const long place = telldir(listing);
  const std::vector<std::string> rest = rest_of(listing);
  seekdir(listing, place);
  const int gap = open_at("/dev/null", O_RDONLY);
  close(gap);
  const int after_gap = must(fcntl(reading, F_DUPFD, gap + 2), "F_DUPFD");

  const int fds[] = {0,     1,         2,         reading,        writing,     shared,
                     apart, appending, path_only, path_directory, link_itself, owned,
                     null,  zero,      full,      random,         after_gap,   dirfd(listing)};
  std::string before[std::size(fds)];
  for (std::size_t i = 3; i < std::size(fds); ++i) before[i] = describe(fds[i]);
  const std::string standard = describe(0);

  w.ready();
  w.wait_for_verify();

  w.check(describe(0) == standard, "standard input was %s and is %s", standard.c_str(), describe(0).c_str());
  for (std::size_t i = 3; i < std::size(fds); ++i) {
    const std::string now = describe(fds[i]);
    w.check(now == before[i], "a descriptor was %s and is %s", before[i].c_str(), now.c_str());
  }
  w.check(fcntl(gap, F_GETFD) == -1 && errno == EBADF, "descriptor %d has come into being", gap);
  char got[100];
  w.check(read(reading, got, sizeof got) == sizeof got && std::memcmp(got, &content[54'321], sizeof got) == 0,
          "reading goes on elsewhere");
  for (const int fd : {shared, after_gap}) {
    w.check(lseek(fd, 0, SEEK_CUR) == 54'421, "descriptor %d does not share its offset any more: %ld", fd,
            lseek(fd, 0, SEEK_CUR));
  }
  w.check(lseek(apart, 0, SEEK_CUR) == 0, "a descriptor of its own shares an offset");
  w.check(write(appending, "after", 5) == 5 && read_file(w.path("appended")) == "before after",
          "appending does not append");
  w.check(write(writing, "end", 3) == 3 && lseek(writing, 0, SEEK_CUR) == 5'000'000'003,
          "writing beyond 4 GiB goes elsewhere");
  w.check(ftruncate(writing, 0) == 0, "ftruncate: %m");
  w.check(read(path_only, got, 1) == -1 && errno == EBADF, "an O_PATH descriptor can be read");
  w.check(faccessat(path_directory, "7", F_OK, 0) == 0, "an O_PATH directory leads elsewhere: %m");
  w.check(write(null, got, 50) == 50 && read(null, got, 50) == 0, "/dev/null: %m");
  w.check(read(zero, got, 50) == 50 && all_zero(got, 50), "/dev/zero: %m");
  w.check(write(full, got, 1) == -1 && errno == ENOSPC, "/dev/full: %m");
  w.check(read(random, got, 50) == 50, "/dev/urandom: %m");
  seekdir(listing, place);
  w.check(rest_of(listing) == rest, "the directory's rest is another one");
  return w.finish();
}
