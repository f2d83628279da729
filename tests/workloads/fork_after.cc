// Checks: what a process may do for the first time only after it was moved: fork, vfork, exec, threads, timers, big
// allocations, new mappings of its own program.

#include "tests/workloads/workload.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

std::atomic<int> prepared = 0;

int status_of(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  pthread_atfork([] { ++prepared; }, nullptr, nullptr);
  std::vector<char> before(3 << 20);
  fill(before.data(), before.size(), 1);

  w.ready();
  w.wait_for_verify();

  const pid_t forked = fork();
  if (forked == 0) _exit(holds(before.data(), before.size(), 1) ? 11 : 12);
  w.check(WEXITSTATUS(status_of(forked)) == 11 && prepared == 1,
          "a forked child sees another memory, or the fork handlers did not run");
  const pid_t vforked = vfork();
  if (vforked == 0) {
    execl("/bin/true", "true", nullptr);
    _exit(1);
  }
  w.check(status_of(vforked) == 0, "vfork and exec do not work");
  pid_t spawned = -1;
  char name[] = "sh", option[] = "-c", script[] = "exit 21";
  char* const arguments[] = {name, option, script, nullptr};
  w.check(posix_spawn(&spawned, "/bin/sh", nullptr, nullptr, arguments, environ) == 0 &&
              WEXITSTATUS(status_of(spawned)) == 21,
          "posix_spawn does not work");
  char line[32] = {};
  FILE* const output = popen("echo from the shell", "r");
  w.check(output != nullptr && std::fgets(line, sizeof line, output) != nullptr &&
              std::strcmp(line, "from the shell\n") == 0,
          "popen does not work");
  if (output != nullptr) pclose(output);

  std::uint64_t answer = 0;
  std::thread([&] { answer = mix(5); }).join();
  w.check(answer == mix(5), "a new thread did not do its work");
  std::vector<char> big(64 << 20);
  fill(big.data(), big.size(), 2);
  w.check(holds(big.data(), big.size(), 2) && holds(before.data(), before.size(), 1), "new memory is not sound");
  void* const library = dlopen("libm.so.6", RTLD_NOW);
  w.check(library != nullptr, "dlopen: %s", library == nullptr ? dlerror() : "");
  bool thrown = false;
  try {
    throw 1;
  } catch (int) {
    thrown = true;
  }
  w.check(thrown, "exceptions do not work");
  return w.finish();
}
