// Checks: a tree of processes, three generations with threads in each: every one goes on with its own memory, PID and
// parent, and its end is seen by that parent and nobody else.

#include "tests/workloads/children.h"

#include <cerrno>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 1 << 20;

// What one process of the tree has for itself. Its threads count until it has verified itself.
class Member {
 public:
  explicit Member(std::uint64_t seed) : seed_(seed) {
    fill(memory_, size, seed_);
    for (int i = 0; i < 2; ++i) threads_.emplace_back([this, i] { count(i); });
  }

  void work() {
    ++turns_;
    fill(memory_ + 4096 * (turns_ % 16), 4096, seed_ + turns_);
  }

  void verify(Workload& w) {
    w.check(getpid() == pid_, "the PID was %d and is %d", pid_, getpid());
    w.check(getppid() == parent_, "the parent was %d and is %d", parent_, getppid());
    w.check(holds(memory_ + 16 * 4096, size - 16 * 4096, seed_ + 16 * 4096), "the memory of seed %#lx changed", seed_);
    for (std::uint64_t turn = turns_ < 16 ? 1 : turns_ - 15; turn <= turns_; ++turn)
      w.check(holds(memory_ + 4096 * (turn % 16), 4096, seed_ + turn), "what turn %lu wrote is lost", turn);
    for (int i = 0; i < 2; ++i) {
      const std::uint64_t before = counters_[i];
      w.check(w.wait_until([&] { return counters_[i] > before; }), "thread %d does not run any more", i);
    }
    ending_ = true;
    for (std::thread& t : threads_) t.join();
    for (int i = 0; i < 2; ++i) w.check(inverted_[i] == ~counters_[i], "thread %d has lost its count", i);
  }

 private:
  void count(int i) {
    thread_local std::uint64_t local = 0;
    while (!ending_) {
      inverted_[i] = ~++local;
      counters_[i] = local;
      pause_for(0.002);
    }
  }

  const pid_t pid_ = getpid(), parent_ = getppid();
  const std::uint64_t seed_;
  char* const memory_ = map(size);
  std::uint64_t turns_ = 0;
  std::atomic<std::uint64_t> counters_[2]{};
  std::uint64_t inverted_[2]{~0ul, ~0ul};
  std::atomic<bool> ending_ = false;
  std::vector<std::thread> threads_;
};

void have_no_more_children(Workload& w) {
  w.check(waitpid(-1, nullptr, WNOHANG | __WALL) == -1 && errno == ECHILD, "there are children that it never made");
}

// Each has children, then makes its threads.
void generation(Workload& w, int depth, const std::string& name, std::uint64_t seed) {
  std::vector<Child> children;
  for (int i = 1; depth < 2 && i <= 3; ++i) {
    const std::string child = name + "-" + std::to_string(i);
    const std::uint64_t its_seed = seed * 16 + static_cast<std::uint64_t>(i);
    children.push_back(
        start_child(w, child, static_cast<int>(its_seed & 0x3f), [&] { generation(w, depth + 1, child, its_seed); }));
    await_settled(w, child);
  }
  Member member(seed);
  if (depth > 0)
    settled(w, name);
  else
    w.ready();
  w.wait_for_verify([&] { member.work(); });
  for (const Child& child : children) check_end(w, child);
  have_no_more_children(w);
  member.verify(w);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  generation(w, 0, "member", 0x7ee);
  return w.finish();
}
