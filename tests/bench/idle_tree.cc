// A tree that does nothing: `idle_tree FILE PROCESSES THREADS`. The first process has the others as its children; each
// has so many threads. FILE gets its PID when all are there.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <sys/prctl.h>
#include <unistd.h>

namespace {

void say(const std::string& path) {
  const std::string unfinished = path + ".new";
  std::FILE* const file = std::fopen(unfinished.c_str(), "w");
  if (!file || std::fprintf(file, "%d\n", getpid()) < 0 || std::fclose(file) != 0) std::abort();
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) std::abort();
}

void be_idle(int threads) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; i++) others.emplace_back([] { pause(); });
  // Never joined: the tree is killed.
  for (std::thread& thread : others) thread.detach();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int processes = std::atoi(argv[2]), threads = std::atoi(argv[3]);
  int ready[2];
  if (pipe(ready) != 0) return 1;
  for (int i = 1; i < processes; i++) {
    if (fork() != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    be_idle(threads);
    if (write(ready[1], "r", 1) != 1) return 1;
    close(ready[0]);
    close(ready[1]);
    for (;;) pause();
  }
  be_idle(threads);
  close(ready[1]);
  char byte;
  for (int i = 1; i < processes; i++)
    if (read(ready[0], &byte, 1) != 1) return 1;
  close(ready[0]);
  say(argv[1]);
  for (;;) pause();
}
