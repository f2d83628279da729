// Preloaded into a daemon: whatever it brings to its disk takes GODWIT_SYNC_MS milliseconds longer. Each time is noted,
// as a byte more in the file GODWIT_SYNC_LOG, so that a test can tell whether that has slowed anything down.
#include <cstdlib>

#include <dlfcn.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

namespace {

using Sync = int (*)(int);

int slowly(const char* call, int fd) {
  const char* const milliseconds = ::getenv("GODWIT_SYNC_MS");
  const long wait = milliseconds ? std::strtol(milliseconds, nullptr, 10) : 0;
  const timespec time{.tv_sec = wait / 1000, .tv_nsec = wait % 1000 * 1'000'000};
  ::nanosleep(&time, nullptr);
  if (const char* const path = ::getenv("GODWIT_SYNC_LOG")) {
    const int log = ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (log < 0 || ::write(log, ".", 1) != 1) std::abort();
    ::close(log);
  }
  return reinterpret_cast<Sync>(::dlsym(RTLD_NEXT, call))(fd);
}

}  // namespace

extern "C" int fsync(int fd) { return slowly("fsync", fd); }
extern "C" int fdatasync(int fd) { return slowly("fdatasync", fd); }
