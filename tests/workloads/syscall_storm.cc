// Checks: threads that make quick system calls all the time: each returns exactly what it should, wherever in its
// entry, middle or exit the freeze comes.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/futex.h>
#include <list>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

template <class Call>
std::thread storm(Workload& w, const std::atomic<bool>& stop, const char* name, Call call) {
  return std::thread([&w, &stop, name, call]() mutable {
    std::uint64_t calls = 0;
    for (; !stop; ++calls) {
      if (!w.check(call(), "%s went wrong in call %llu: %m", name, static_cast<unsigned long long>(calls))) return;
    }
    w.check(calls > 0, "%s was never called", name);
  });
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string path = w.path("content");
  std::string content(65536, 0);
  fill(content.data(), content.size(), 3);
  write_file(path, content);
  const int file = must(open(path.c_str(), O_RDWR | O_CLOEXEC), "open");
  int ends[2];
  must(pipe2(ends, O_CLOEXEC), "pipe2");
  const int counter = must(eventfd(0, EFD_CLOEXEC), "eventfd");
  const pid_t pid = getpid();

  std::atomic<bool> stop = false;
  std::list<std::thread> threads;
  threads.push_back(
      storm(w, stop, "getpid and gettid", [pid] { return syscall(SYS_getpid) == pid && syscall(SYS_gettid) > 0; }));
  threads.push_back(storm(w, stop, "pread", [&, n = std::size_t{0}]() mutable {
    char got[4096];
    n = (n + 4096) % content.size();
    return pread(file, got, sizeof got, static_cast<off_t>(n)) == sizeof got &&
           std::memcmp(got, &content[n], sizeof got) == 0;
  }));
  threads.push_back(storm(w, stop, "lseek", [&, n = off_t{0}]() mutable {
    n = (n + 1) % 60000;
    return lseek(file, n, SEEK_SET) == n && lseek(file, 0, SEEK_CUR) == n;
  }));
  threads.push_back(storm(w, stop, "a pipe", [&, n = std::uint64_t{0}]() mutable {
    const std::uint64_t sent = mix(++n);
    std::uint64_t got = 0;
    return write(ends[1], &sent, 8) == 8 && read(ends[0], &got, 8) == 8 && got == sent;
  }));
  threads.push_back(storm(w, stop, "an eventfd", [&, n = std::uint64_t{0}]() mutable {
    std::uint64_t got = 0;
    const std::uint64_t sent = ++n;
    return write(counter, &sent, 8) == 8 && read(counter, &got, 8) == 8 && got == sent;
  }));
  threads.push_back(storm(w, stop, "dup and close", [&] {
    const int fd = fcntl(file, F_DUPFD_CLOEXEC, 500);
    return fd >= 500 && close(fd) == 0;
  }));
  threads.push_back(storm(w, stop, "mmap and munmap", [&] {
    void* const at = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return false;
    std::memset(at, 1, 8192);
    return munmap(at, 8192) == 0;
  }));
  threads.push_back(storm(w, stop, "short sleeps and futexes", [word = std::uint32_t{0}]() mutable {
    const timespec brief{0, 20'000};
    if (syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0) != 0) return false;
    if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, nullptr, nullptr, 0) != -1 || errno != EAGAIN) return false;
    if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &brief, nullptr, 0) != -1 || errno != ETIMEDOUT) return false;
    return nanosleep(&brief, nullptr) == 0;
  }));

  w.ready();
  w.wait_for_verify();
  pause_for(0.1);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  return w.finish();
}
