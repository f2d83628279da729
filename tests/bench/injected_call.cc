// What one system call costs that a stopped target runs for us: by itself, and as one of a batch (agent/engine/ptrace).
#include "agent/engine/ptrace/hold.h"

#include <benchmark/benchmark.h>

#include <csignal>

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace godwit;
using namespace godwit::engine;

// A child that sleeps, held as a migration would hold it: pinned to the engine's CPU.
class Target {
 public:
  explicit Target(bool pinned) : pid_(::fork()), journal_(UniqueFd()) {
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::pause();
    }
    ::usleep(20'000);
    hold_ = std::make_unique<Hold>(pid_, journal_, calls_, HoldOptions{.pin = pinned});
  }
  ~Target() {
    hold_->release();
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Hold& hold() { return *hold_; }

 private:
  pid_t pid_;
  Journal journal_;
  InterruptedCalls calls_;
  std::unique_ptr<Hold> hold_;
};

void single(benchmark::State& state) {
  Target target(state.range(0) != 0);
  RemoteSyscalls& remote = target.hold().leader();
  for (auto _ : state) benchmark::DoNotOptimize(remote.call("getppid", SYS_getppid));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(single)->ArgName("pinned")->Arg(1)->Arg(0)->Unit(benchmark::kMicrosecond);

void batched(benchmark::State& state) {
  Target target(true);
  Batch batch(target.hold().scratch());
  for (int i = 0; i < state.range(0); i++) batch.add("getppid", SYS_getppid);
  for (auto _ : state) target.hold().leader().run(batch);
  const auto calls = static_cast<double>(state.iterations() * state.range(0));
  state.counters["per_call"] = benchmark::Counter(calls, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(batched)->ArgName("calls")->Arg(1)->Arg(16)->Arg(64)->Arg(256)->Unit(benchmark::kMicrosecond);

void hold_and_release(benchmark::State& state) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
  }
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (auto _ : state) Hold(pid, journal, calls).release();
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}
BENCHMARK(hold_and_release)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
