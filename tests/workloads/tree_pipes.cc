// Checks: what processes have inherited of each other's open files: pipes, socket pairs and an eventfd with something
// in them, one open file for two (its offset is one), two of the same path (theirs are two), flags of descriptors,
// ends that nobody else has open, epoll sets.

#include "tests/workloads/children.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

using namespace godwit::workloads;

namespace {

struct Ends {
  int ends[2];
  int reading() const { return ends[0]; }
  int writing() const { return ends[1]; }
};

Ends make_pipe() {
  Ends p;
  must(pipe2(p.ends, O_CLOEXEC), "pipe2");
  return p;
}

Ends make_pair(int type) {
  Ends p;
  must(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, p.ends), "socketpair");
  return p;
}

void put(int fd, std::string_view text) {
  if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) give_up("write");
}

void gets(Workload& w, int fd, std::string_view text, const char* what) {
  char got[64] = "";
  if (!w.check(readable(fd), "%s: nothing can be read", what)) return;
  const ssize_t n = read(fd, got, sizeof got - 1);
  w.check(n == static_cast<ssize_t>(text.size()) && text == got, "%s: read %zd: \"%s\"", what, n, got);
}

void is_at(Workload& w, int fd, off_t wanted, const char* what) {
  const off_t at = lseek(fd, 0, SEEK_CUR);
  w.check(at == wanted, "%s is at %ld, not at %ld", what, at, wanted);
}

void counts(Workload& w, int fd, std::uint64_t wanted, const char* what) {
  std::uint64_t count = 0;
  if (!w.check(readable(fd), "%s: nothing can be read", what)) return;
  w.check(read(fd, &count, sizeof count) == sizeof count && count == wanted, "%s is %lu", what, count);
}

bool add(int fd, std::uint64_t count) { return write(fd, &count, sizeof count) == sizeof count; }

void closes_on_exec(Workload& w, int fd, int wanted, const char* what) {
  const int flags = fcntl(fd, F_GETFD);
  w.check(flags == wanted, "%s has descriptor flags %d", what, flags);
}

void has_event(Workload& w, int epoll, std::uint64_t data, const char* what) {
  epoll_event event{};
  const int n = epoll_wait(epoll, &event, 1, 2000);
  w.check(n == 1 && event.data.u64 == data, "%s: %d events, of member %lu", what, n, event.data.u64);
}

int make_set(int member, std::uint64_t data) {
  const int epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = data}};
  must(epoll_ctl(epoll, EPOLL_CTL_ADD, member, &event), "epoll_ctl");
  return epoll;
}

int open_at(const std::string& path, off_t offset) {
  const int fd = must(open(path.c_str(), O_RDWR | O_CLOEXEC), "open");
  must(lseek(fd, offset, SEEK_SET), "lseek");
  return fd;
}

// Another program has what was not to be closed, and nothing else.
void run_program(Workload& w, int kept, int closed) {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) {
    char script[128];
    std::snprintf(script, sizeof script, "test -e /proc/self/fd/%d && test ! -e /proc/self/fd/%d", kept, closed);
    execl("/bin/sh", "sh", "-c", script, nullptr);
    _exit(3);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  w.check(status == 0, "after an exec: %s", how_it_ended(status).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string path = w.path("content");
  write_file(path, std::string(10000, 'c'));
  const Ends down = make_pipe(), up = make_pipe(), ending = make_pipe(), watched = make_pipe(), late = make_pipe();
  const Ends stream = make_pair(SOCK_STREAM), packets = make_pair(SOCK_SEQPACKET);
  const int count = must(eventfd(0, EFD_CLOEXEC), "eventfd");
  const int shared = open_at(path, 100), own = open_at(path, 300);
  const int common_set = make_set(watched.reading(), 55);

  const Child child = start_child(w, "heir", 7, [&] {
    close(down.writing());
    close(up.reading());
    close(ending.writing());
    close(late.writing());
    close(stream.ends[0]);
    close(packets.ends[0]);
    close(own);
    const int again = open_at(path, 10);
    const int set = make_set(late.reading(), 66);
    must(fcntl(shared, F_SETFD, 0), "F_SETFD");
    must(lseek(shared, 777, SEEK_SET), "lseek");
    put(up.writing(), "from the child");
    put(stream.ends[1], "child's stream");
    put(packets.ends[1], "one");
    put(packets.ends[1], "two");
    if (!add(count, 7)) give_up("eventfd");
    settled(w, "heir");

    w.wait_for_verify();
    gets(w, down.reading(), "from the parent", "the pipe down");
    gets(w, stream.ends[1], "parent's stream", "the stream down");
    is_at(w, again, 10, "the child's own file");
    closes_on_exec(w, shared, 0, "the child's shared file");
    closes_on_exec(w, again, FD_CLOEXEC, "the child's own file");
    run_program(w, shared, again);
    has_event(w, set, 66, "the child's set");
    gets(w, late.reading(), "late", "the pipe that the child's set watches");
    has_event(w, common_set, 55, "the common set, in the child");
    must(lseek(again, 4000, SEEK_SET), "lseek");
    if (w.check(readable(ending.reading()), "the pipe that the parent has closed has no end")) {
      char none;
      w.check(read(ending.reading(), &none, 1) == 0, "the pipe that the parent has closed is not at its end");
    }
    is_at(w, shared, 888, "what the parent has moved");
    must(lseek(shared, 5000, SEEK_SET), "lseek");
    if (!add(count, 9)) give_up("eventfd");
  });
  await_settled(w, "heir");
  close(down.reading());
  close(up.writing());
  close(ending.reading());
  close(stream.ends[1]);
  close(packets.ends[1]);
  put(down.writing(), "from the parent");
  put(stream.ends[0], "parent's stream");

  w.ready();
  w.wait_for_verify();
  gets(w, up.reading(), "from the child", "the pipe up");
  gets(w, stream.ends[0], "child's stream", "the stream up");
  gets(w, packets.ends[0], "one", "the first packet");
  gets(w, packets.ends[0], "two", "the second packet");
  counts(w, count, 7, "the count");
  is_at(w, shared, 777, "what the child has moved before");
  is_at(w, own, 300, "the parent's own file");
  closes_on_exec(w, shared, FD_CLOEXEC, "the parent's shared file");
  must(lseek(shared, 888, SEEK_SET), "lseek");
  put(late.writing(), "late");
  put(watched.writing(), "watched");
  has_event(w, common_set, 55, "the common set");
  close(ending.writing());
  counts(w, count, 9, "the count after the move");
  check_end(w, child);
  is_at(w, shared, 5000, "what the child has moved after the move");
  is_at(w, own, 300, "the parent's own file, after the child's was moved,");
  // Nobody else has the child's ends open.
  char none;
  w.check(readable(up.reading()) && read(up.reading(), &none, 1) == 0, "the pipe up is not at its end");
  w.check(readable(stream.ends[0]) && read(stream.ends[0], &none, 1) == 0, "the stream up is not at its end");
  return w.finish();
}
