// Checks: pidfds of threads (PIDFD_THREAD): of the first thread and another one, of one that has ended, and of a thread
// of a child; what they are, who gets a signal through them, and that they tell of the end of that thread.

#include "tests/workloads/children.h"
#include "tests/workloads/pidfds.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <sys/mman.h>
#include <thread>

using namespace godwit::workloads;

namespace {

constexpr int end_of_gone = 7;

std::atomic<pid_t>* hit;  // by the last signal; the child has it, too

// A thread that ends alone, with that status, when it is told.
class Member {
 public:
  explicit Member(int status = 0) {
    std::thread([this, status] {
      tid_ = gettid();
      while (!ending_) pause_for(0.002);
      syscall(SYS_exit, status);
    }).detach();
    while (tid_ == 0) pause_for(0.001);
  }
  pid_t tid() const { return tid_; }
  void end() { ending_ = true; }

 private:
  std::atomic<pid_t> tid_ = 0;
  std::atomic<bool> ending_ = false;
};

void check_open(Workload& w, const char* name, int fd, pid_t tid) {
  w.check(process_of(fd) == tid, "%s is %d instead of %d", name, process_of(fd), tid);
  w.check((fcntl(fd, F_GETFL) & of_thread) != 0, "%s is a pidfd of a process", name);
  w.check(!ended(fd), "%s has ended", name);
  *hit = 0;
  w.check(signal_to(fd, SIGUSR1) == 0, "%s gets no signal: %m", name);
  w.wait_until([] { return *hit != 0; });
  w.check(*hit == tid, "a signal to %s, %d, went to %d", name, tid, hit->load());
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  if (const int probe = static_cast<int>(syscall(SYS_pidfd_open, gettid(), of_thread)); probe < 0)
    w.skip("this kernel has no pidfds of threads");
  else
    close(probe);
  hit = static_cast<std::atomic<pid_t>*>(
      must(mmap(nullptr, sizeof *hit, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), "mmap"));
  signal(SIGUSR1, [](int) { *hit = gettid(); });

  const Child child = start_child(w, "child", 22, [&] {
    Member member;
    const int own = open_process(member.tid(), of_thread);
    w.tell("tid", std::to_string(member.tid()));
    settled(w, "child");
    w.wait_for_verify();
    await(w, "first");
    check_open(w, "the child's thread", own, member.tid());
    w.tell("second", "");
    await(w, "go");
    member.end();
    w.check(w.wait_until([&] { return ended(own); }), "the child's thread does not end");
    await(w, "last");
  });
  await_settled(w, "child");
  Member staying, going, gone(end_of_gone);
  const int first = open_process(getpid(), of_thread);
  const int other = open_process(staying.tid(), of_thread | O_NONBLOCK);
  const int leaving = open_process(going.tid(), of_thread);
  const int left = open_process(gone.tid(), of_thread);
  const pid_t relative = std::stoi(read_file(w.path("tid")));
  const int childs = open_process(relative, of_thread);
  gone.end();
  if (!w.wait_until([&] { return process_of(left) == -1; })) give_up("a thread that does not end");
  const int end = end_of(left), events = events_of(left);
  const int watch = watch_for_end(leaving);

  w.ready();
  w.expect_interrupts();
  w.wait_for_verify();
  check_open(w, "the first thread", first, getpid());
  check_open(w, "another thread", other, staying.tid());
  check_open(w, "the watched thread", leaving, going.tid());
  check_open(w, "a thread of the child", childs, relative);
  w.check((fcntl(other, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(first, F_GETFL) & O_NONBLOCK) == 0,
          "the flags are %#o and %#o", fcntl(other, F_GETFL), fcntl(first, F_GETFL));
  w.check(process_of(left) == -1 && (fcntl(left, F_GETFL) & of_thread) != 0, "one that has ended is %d, flags %#o",
          process_of(left), fcntl(left, F_GETFL));
  w.check(events_of(left) == events, "of one that has ended poll says %#x instead of %#x", events_of(left), events);
  w.check(signal_to(left, 0) == -1 && errno == ESRCH, "one that has ended gets signals: %m");
  w.check(end_of(left) == end || w.beside_criu(), "it ended as %#x instead of %#x", end_of(left), end);
  w.tell("first", "");
  await(w, "second");

  w.check(told_by(watch, 0) == 0, "the watched thread is said to have ended");
  going.end();
  w.check(told_by(watch, 10'000) == of_the_watched && process_of(leaving) == -1,
          "nobody tells of the end of the watched thread, %d", process_of(leaving));
  w.tell("go", "");
  w.check(w.wait_until([&] { return ended(childs); }), "nobody tells of the end of the child's thread");
  w.check(!ended(first) && !ended(other), "threads that have not ended are said to have");
  w.tell("last", "");
  check_end(w, child);
  return w.finish();
}
