// Checks: an awkward comm, personality, dumpable, umask, working directory, child_subreaper, coredump_filter and the
// process-wide THP switch.

#include "tests/workloads/workload.h"

#include <fcntl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

// Looks like the end of the name in /proc/PID/stat, and is of the greatest length.
constexpr char name[16] = "a) R 1 (b\nc) S ";

std::string link_target(const char* path) {
  char target[4096];
  const ssize_t size = readlink(path, target, sizeof target);
  return size < 0 ? "?" : std::string(target, static_cast<std::size_t>(size));
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string place = w.path("a place");
  must(mkdir(place.c_str(), 0755), "mkdir");
  must(chdir(place.c_str()), "chdir");
  write_file("/proc/self/coredump_filter", "0x3d");
  must(prctl(PR_SET_NAME, name), "PR_SET_NAME");
  must(personality(ADDR_NO_RANDOMIZE | WHOLE_SECONDS | SHORT_INODE), "personality");
  umask(027);
  must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER");
  must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), "PR_SET_THP_DISABLE");
  must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE");
  const std::string directory = link_target("/proc/self/cwd");
  const std::string root = link_target("/proc/self/root");

  w.ready();
  w.wait_for_verify();

  char name_now[16] = {};
  prctl(PR_GET_NAME, name_now);
  w.check(std::string(name_now) == name, "the name is \"%s\"", name_now);
  w.check(personality(0xffffffff) == (ADDR_NO_RANDOMIZE | WHOLE_SECONDS | SHORT_INODE), "the personality is %#x",
          static_cast<unsigned>(personality(0xffffffff)));
  const mode_t mask = umask(0);
  w.check(mask == 027, "the umask is %03o", mask);
  w.check(prctl(PR_GET_DUMPABLE) == 0, "dumpable is %d", prctl(PR_GET_DUMPABLE));
  w.check(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1, "transparent huge pages are enabled again");
  w.check(link_target("/proc/self/cwd") == directory, "the working directory is %s",
          link_target("/proc/self/cwd").c_str());
  w.check(link_target("/proc/self/root") == root, "the root directory is %s", link_target("/proc/self/root").c_str());
  const int here = open("made here", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  w.check(here >= 0 && access((place + "/made here").c_str(), F_OK) == 0, "relative paths lead elsewhere");
  const std::string filter = read_file("/proc/self/coredump_filter");
  w.check(filter == "0000003d\n", "coredump_filter is %s", filter.c_str());

  int subreaper = 0;
  prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
  w.check(subreaper == 1, "child_subreaper is %d", subreaper);
  const pid_t self = getpid();
  const pid_t child = fork();
  if (child == 0) {
    if (fork() == 0) {
      while (getppid() != self && getppid() != 1) pause_for(0.001);
      _exit(getppid() == self ? 5 : 6);
    }
    _exit(7);
  }
  int first = 0, second = 0;
  waitpid(child, &first, 0);
  const bool inherited = wait(&second) > 0;
  w.check(inherited && WEXITSTATUS(first) == 7 && WEXITSTATUS(second) == 5, "an orphan did not come to its subreaper");
  return w.finish();
}
