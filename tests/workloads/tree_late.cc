// Checks: a tree that changes all the time: children that are born and gone between two looks at it, others that stay
// for a while, one that runs another program again and again, grandchildren of a child that is born late.

#include "tests/workloads/children.h"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <sys/wait.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 256 << 10;
constexpr std::size_t most_children = 6;

// The memory of somebody who stays is of its own number.
void stay(Workload& w, std::uint64_t number) {
  char* const memory = map(size);
  fill(memory, size, number);
  w.wait_for_verify([&] { fill(memory, 4096, number); });
  w.check(holds(memory, size, number), "the memory of number %lu changed", number);
}

// Born and gone within a moment.
void pass_by(Workload& w, std::uint64_t turn) {
  const int code = static_cast<int>(turn % 50);
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) {
    const pid_t below = fork();
    if (below == 0) _exit(code + 1);
    int status = 0;
    waitpid(below, &status, 0);
    _exit(WEXITSTATUS(status) + 1);
  }
  int status = 0;
  const pid_t got = waitpid(pid, &status, 0);
  w.check(got == pid && status == (code + 2) << 8, "turn %lu: waitpid returned %d, %s", turn, got,
          how_it_ended(status).c_str());
}

Child newcomer(Workload& w, std::uint64_t number) {
  const std::string name = "newcomer-" + std::to_string(number);
  return start_child(w, name, 11, [&w, number, name] {
    const Child below = start_child(w, "below-" + name, 12, [&] { stay(w, number + 1'000'000); });
    // Every other one goes before anybody asks.
    if (number % 2 == 0) {
      pause_for(0.03);
      kill(below.pid, SIGKILL);
      waitpid(below.pid, nullptr, 0);
      return;
    }
    stay(w, number);
    check_end(w, below);
  });
}

// Another program, which is this one again, until somebody asks. Its memory is filled anew each time.
[[noreturn]] void run_again(Workload& w, const char* directory, unsigned long stage) {
  char* const memory = map(size);
  fill(memory, size, stage);
  for (int i = 0; i < 8; ++i) {
    if (w.asked("verify")) {
      w.check(holds(memory, size, stage), "the memory of stage %lu changed", stage);
      end_child(w, "changing", 13);
    }
    pause_for(0.01);
  }
  w.check(holds(memory, size, stage), "the memory of stage %lu changed", stage);
  if (!w.failure().empty()) end_child(w, "changing", 13);
  char next[32];
  std::snprintf(next, sizeof next, "%lu", stage + 1);
  execl("/proc/self/exe", "tree_late", directory, next, nullptr);
  give_up("exec");
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  if (argc > 2) run_again(w, argv[1], std::strtoul(argv[2], nullptr, 10));
  const Child changing = start_child(w, "changing", 13, [&] { run_again(w, argv[1], 1); });
  std::deque<Child> children;
  std::uint64_t turn = 0;

  w.ready();
  w.wait_for_verify([&] {
    pass_by(w, ++turn);
    if (turn % 3 == 0) children.push_back(newcomer(w, turn));
    while (children.size() > most_children) {  // the oldest goes
      int status = 0;
      kill(children.front().pid, SIGKILL);
      waitpid(children.front().pid, &status, 0);
      w.check(status == SIGKILL || status == 11 << 8, "%s: %s", children.front().name.c_str(),
              how_it_ended(status).c_str());
      children.pop_front();
    }
  });
  for (const Child& child : children) check_end(w, child);
  check_end(w, changing);
  return w.finish();
}
