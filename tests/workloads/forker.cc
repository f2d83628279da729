// Checks: a process that forks short-lived children all the time: each ends as it should, with its parent's memory, and
// is reaped once; nothing is left over.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::vector<char> memory(1 << 20);
  fill(memory.data(), memory.size(), 1);
  std::uint64_t forks = 0;
  const auto one_child = [&] {
    const int code = static_cast<int>(++forks % 100);
    fill(memory.data(), 4096, forks);
    const pid_t child = fork();
    if (child == 0) {
      const bool good = holds(memory.data(), 4096, forks) && holds(&memory[4096], memory.size() - 4096, 1 + 4096);
      _exit(good ? code : 127);
    }
    if (!w.check(child > 0, "fork: %m")) return;
    int status = 0;
    const pid_t got = waitpid(child, &status, 0);
    w.check(got == child, "waitpid for %d returned %d (%m)", child, got);
    w.check(WIFEXITED(status) && WEXITSTATUS(status) == code, "child %llu ended with %#x, not %d",
            static_cast<unsigned long long>(forks), static_cast<unsigned>(status), code);
  };

  w.ready();
  w.wait_for_verify([&] {
    for (int i = 0; i < 3; ++i) one_child();
  });
  for (int i = 0; i < 20; ++i) one_child();
  w.check(waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD, "there is a child that nobody forked: %m");
  return w.finish();
}
