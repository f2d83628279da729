// Checks: locks and leases of files. Record locks, locks of open file descriptions, flocks, also of mapped files and
// memfds and of open files that relatives share; who waits for a lock gets it when it is free. A child tests the locks
// all the time, and never finds one free. A lease is there, and is broken as asked for.
// `file_locks_live`: of files that are carried, since two hosts with the same storage cannot both hold a lock.

#include "tests/workloads/children.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

using namespace godwit::workloads;

namespace {

constexpr int lease_signal = 40;

struct flock range(short type, off_t start, off_t length) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

void place(int fd, int command, short type, off_t start, off_t length) {
  struct flock lock = range(type, start, length);
  must(fcntl(fd, command, &lock), "fcntl: place a lock");
}

// Another open file of the same file, whether that has a name or not.
int again(int fd, int flags) {
  return must(open(("/proc/self/fd/" + std::to_string(fd)).c_str(), flags | O_CLOEXEC), "open a file again");
}

struct Locked {
  int records, description, whole, shared, memory;     // held by the first process
  int other, other_whole, other_shared, other_memory;  // of the same files
};

// What somebody else finds at `start`.
struct flock found(int fd, int command, short type, off_t start, off_t length = 1) {
  struct flock lock = range(type, start, length);
  must(fcntl(fd, command, &lock), "fcntl: test a lock");
  return lock;
}

void is_locked(Workload& w, const Locked& l, pid_t holder) {
  struct flock lock = found(l.other, F_GETLK, F_WRLCK, 10, 5000);
  w.check(lock.l_type == F_WRLCK && lock.l_start == 10 && lock.l_len == 10 && lock.l_pid == holder,
          "the record lock for writing is %d of %ld, %ld by %d", lock.l_type, lock.l_start, lock.l_len, lock.l_pid);
  lock = found(l.other, F_GETLK, F_WRLCK, 1L << 40, 0);
  w.check(lock.l_type == F_RDLCK && lock.l_start == 10'000 && lock.l_len == 0 && lock.l_pid == holder,
          "the record lock for reading is %d of %ld, %ld by %d", lock.l_type, lock.l_start, lock.l_len, lock.l_pid);
  w.check(found(l.other, F_GETLK, F_RDLCK, 20'000).l_type == F_UNLCK, "a record lock for reading shuts out readers");
  w.check(found(l.other, F_GETLK, F_WRLCK, 20, 100).l_type == F_UNLCK, "a record is locked that was not");
  lock = found(l.other, F_OFD_GETLK, F_RDLCK, 5'000, 1000);
  w.check(lock.l_type == F_WRLCK && lock.l_start == 5'050 && lock.l_len == 50 && lock.l_pid == -1,
          "the lock of the description is %d of %ld, %ld by %d", lock.l_type, lock.l_start, lock.l_len, lock.l_pid);
  w.check(flock(l.other_whole, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the exclusive flock is free");
  w.check(flock(l.other_shared, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the shared flock is free");
  w.check(flock(l.other_memory, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the memfd's flock is free");
}

void test_all_the_time(Workload& w, const Locked& l, pid_t holder) {
  is_locked(w, l, holder);
  settled(w, "tester");
  while (!w.asked("tested") && w.failure().empty()) is_locked(w, l, holder);
}

// In a call that is interrupted by every stop and made again.
void wait_for_lock(Workload& w, const Locked& l) {
  settled(w, "waiter");
  struct flock lock = range(F_WRLCK, 15, 1);
  const int rc = fcntl(l.other, F_SETLKW, &lock);
  w.check(rc == 0, "waiting for a lock: %m");
  w.check(w.asked("unlocked"), "a lock was given to who waits for it while it was held");
  w.tell("got", "");
}

int make(Workload& w, const char* name, bool carried) {
  const std::string path = w.path(name);
  const int fd = must(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644), name);
  must(ftruncate(fd, 8192), "ftruncate");
  if (carried) must(unlink(path.c_str()), "unlink");
  return fd;
}

// For reading: nobody may have it open for writing.
int make_leased(Workload& w, bool carried) {
  const int writing = make(w, "leased", false);
  const int fd = again(writing, O_RDONLY);
  close(writing);
  if (carried) must(unlink(w.path("leased").c_str()), "unlink");
  must(fcntl(fd, F_SETSIG, lease_signal), "F_SETSIG");
  must(fcntl(fd, F_SETLEASE, F_RDLCK), "F_SETLEASE");
  return fd;
}

void check_lease(Workload& w, int fd) {
  w.check(fcntl(fd, F_GETLEASE) == F_RDLCK, "the lease is %d", fcntl(fd, F_GETLEASE));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const int rc = open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  w.check(rc == -1 && errno == EWOULDBLOCK, "a leased file can be opened for writing: %m");
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, lease_signal);
  siginfo_t info{};
  const timespec soon{.tv_sec = 2, .tv_nsec = 0};
  const int signal = sigtimedwait(&set, &info, &soon);
  w.check(signal == lease_signal && info.si_fd == fd, "breaking the lease: signal %d of descriptor %d: %m", signal,
          info.si_fd);
  w.check(fcntl(fd, F_SETLEASE, F_UNLCK) == 0, "giving up the lease: %m");
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const bool carried = std::strcmp(getenv("WORKLOAD"), "file_locks_live") == 0;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, lease_signal);
  must(sigprocmask(SIG_BLOCK, &set, nullptr), "sigprocmask");

  Locked l{};
  l.records = make(w, "records", carried);
  l.other = again(l.records, O_RDWR);
  l.description = again(l.records, O_RDWR);
  l.whole = make(w, "whole", carried);
  l.other_whole = again(l.whole, O_RDONLY);
  l.shared = make(w, "shared", carried);
  l.other_shared = again(l.shared, O_RDONLY);
  l.memory = must(memfd_create("locked", MFD_CLOEXEC), "memfd_create");
  must(ftruncate(l.memory, 4096), "ftruncate");
  l.other_memory = again(l.memory, O_RDONLY);
  // A mapping is no descriptor: that it comes and goes leaves the record locks alone.
  char* const mapped =
      carried ? nullptr : static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, l.records, 0));
  if (mapped) fill(mapped, 8192, 7);

  place(l.records, F_SETLK, F_WRLCK, 10, 10);
  place(l.records, F_SETLK, F_RDLCK, 10'000, 0);
  place(l.description, F_OFD_SETLK, F_WRLCK, 5'050, 50);
  must(flock(l.whole, LOCK_EX), "flock");
  must(flock(l.memory, LOCK_EX), "flock");
  const int leased = make_leased(w, carried);

  const pid_t self = getpid();
  // The child places it, in the open file that both have.
  const Child placer = start_child(w, "placer", 3, [&] {
    must(flock(l.shared, LOCK_SH), "flock");
    settled(w, "placer");
    await(w, "tested");
  });
  await_settled(w, "placer");
  const Child tester = start_child(w, "tester", 4, [&] { test_all_the_time(w, l, self); });
  const Child waiter = start_child(w, "waiter", 5, [&] { wait_for_lock(w, l); });
  await_settled(w, "tester");
  await_settled(w, "waiter");

  w.ready();
  w.wait_for_verify();

  w.tell("tested", "");
  check_end(w, tester);
  w.check(!w.asked("got"), "who waits for a lock has got it");
  check_end(w, placer);
  w.check(flock(l.other_shared, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK,
          "a flock ended with the process that placed it, though others have the open file");
  w.check(flock(l.shared, LOCK_UN) == 0 && flock(l.other_shared, LOCK_EX | LOCK_NB) == 0,
          "a flock of an open file that is shared cannot be taken back: %m");
  check_lease(w, leased);
  if (mapped) w.check(holds(mapped, 8192, 7), "the mapped file has changed");
  w.tell("unlocked", "");
  place(l.records, F_SETLK, F_UNLCK, 10, 10);
  check_end(w, waiter);
  w.check(w.asked("got"), "who waits for a lock has not got it");
  return w.finish();
}
