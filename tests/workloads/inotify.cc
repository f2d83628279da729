// Checks: inotify watches: they still watch, what they were asked to, under their old numbers (which have gaps).

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

struct Event {
  int watch;
  std::uint32_t mask;
  std::string name;
  bool operator==(const Event&) const = default;
};

std::vector<Event> read_all(int fd) {
  std::vector<Event> events;
  alignas(inotify_event) char buffer[8192];
  const ssize_t size = read(fd, buffer, sizeof buffer);
  for (ssize_t at = 0; at < size;) {
    const auto* const event = reinterpret_cast<const inotify_event*>(buffer + at);
    events.push_back({event->wd, event->mask, event->len > 0 ? event->name : ""});
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  return events;
}

std::string describe(const std::vector<Event>& events) {
  std::string text;
  for (const Event& e : events)
    text += " (" + std::to_string(e.watch) + ", " + std::to_string(e.mask) + ", \"" + e.name + "\")";
  return text.empty() ? " none" : text;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string directory = w.path("watched");
  must(mkdir(directory.c_str(), 0755), "mkdir");
  write_file(directory + "/file", "x");
  write_file(w.path("unwatched"), "x");
  const int fd = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1");
  const int file = open((directory + "/file").c_str(), O_WRONLY | O_CLOEXEC);
  // Numbers 1 and 3 are taken and given back.
  const int gap = must(inotify_add_watch(fd, w.path("unwatched").c_str(), IN_ALL_EVENTS), "inotify_add_watch");
  const int on_directory =
      must(inotify_add_watch(fd, directory.c_str(), IN_CREATE | IN_DELETE | IN_ONLYDIR), "inotify_add_watch");
  const int second_gap = must(inotify_add_watch(fd, "/", IN_ATTRIB), "inotify_add_watch");
  const int on_file =
      must(inotify_add_watch(fd, (directory + "/file").c_str(), IN_MODIFY | IN_EXCL_UNLINK), "inotify_add_watch");
  for (const int watch : {gap, second_gap}) must(inotify_rm_watch(fd, watch), "inotify_rm_watch");
  read_all(fd);  // the two IN_IGNORED
  const int second = must(inotify_init1(0), "inotify_init1");
  must(inotify_add_watch(second, directory.c_str(), IN_OPEN), "inotify_add_watch");

  const std::string watches = fdinfo(fd, {"inotify"}) + fdinfo(second, {"inotify"});

  w.ready();
  w.wait_for_verify();

  w.check(fcntl(fd, F_GETFL) == O_NONBLOCK && fcntl(fd, F_GETFD) == FD_CLOEXEC, "the flags are %#o/%d",
          fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
  const std::string watches_now = fdinfo(fd, {"inotify"}) + fdinfo(second, {"inotify"});
  w.check(watches_now == watches, "the watches were\n%sand are\n%s", watches.c_str(), watches_now.c_str());
  w.check(fcntl(second, F_GETFL) == 0, "the second instance's flags are %#o", fcntl(second, F_GETFL));
  std::vector<Event> got = read_all(fd);
  w.check(got.empty(), "there are events of the move:%s", describe(got).c_str());
  w.check(write(file, "y", 1) == 1, "write: %m");
  close(open((directory + "/new").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  write_file(w.path("unwatched"), "y");
  unlink((directory + "/new").c_str());
  got = read_all(fd);
  w.check(got == std::vector<Event>{{on_file, IN_MODIFY, ""},
                                    {on_directory, IN_CREATE, "new"},
                                    {on_directory, IN_DELETE, "new"}},
          "the watches saw:%s", describe(got).c_str());
  got = readable(second) ? read_all(second) : std::vector<Event>();
  w.check(got.size() == 1 && got[0].mask == IN_OPEN && got[0].name == "new", "the second instance saw:%s",
          describe(got).c_str());
  for (const int watch : {gap, second_gap}) {
    w.check(inotify_rm_watch(fd, watch) == -1 && errno == EINVAL, "the watch %d is back", watch);
  }
  w.check(inotify_rm_watch(fd, on_file) == 0 && inotify_rm_watch(fd, on_directory) == 0,
          "a watch cannot be removed: %m");
  return w.finish();
}
