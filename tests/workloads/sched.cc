// Checks: scheduling policy, nice value or priority, CPU affinity, timer slack and I/O priority of each thread, and
// oom_score_adj.

#include "tests/workloads/workload.h"

#include <cinttypes>
#include <cstdio>
#include <linux/ioprio.h>
#include <list>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Attributes {  // struct sched_attr, which not every C library declares
  std::uint32_t size = 56;
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0, deadline = 0, period = 0;
  std::uint32_t util_min = 0, util_max = 0;
};

struct Setting {
  Attributes attributes;
  int cpu;  // -1: all
  unsigned long slack_ns;
  int io_priority;
};

void apply(const Setting& setting) {
  if (syscall(SYS_sched_setattr, 0, &setting.attributes, 0) != 0) {
    // Even root may lack the time for it, where groups have shares of it.
    if (setting.attributes.policy != SCHED_RR) give_up("sched_setattr");
    std::fprintf(stderr, "there are no real-time threads here: %m\n");
  }
  if (setting.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(setting.cpu, &set);
    must(sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
  }
  // Clamps of the utilisation, on a kernel that has them.
  Attributes clamped = setting.attributes;
  clamped.flags |= 0x20 | 0x40;
  clamped.util_min = 100 + static_cast<std::uint32_t>(setting.slack_ns % 100);
  clamped.util_max = 900;
  syscall(SYS_sched_setattr, 0, &clamped, 0);
  must(prctl(PR_SET_TIMERSLACK, setting.slack_ns, 0, 0, 0), "PR_SET_TIMERSLACK");
  must(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, setting.io_priority), "ioprio_set");
}

std::string describe() {
  Attributes now;
  syscall(SYS_sched_getattr, 0, &now, sizeof now, 0);
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  char text[256];
  std::snprintf(
      text, sizeof text,
      "policy %u flags %" PRIu64 " nice %d priority %u use %u to %u, %d CPUs (first two %d%d), slack %d, io %#lx",
      now.policy, now.flags, now.nice, now.priority, now.util_min, now.util_max, CPU_COUNT(&set), CPU_ISSET(0, &set),
      CPU_ISSET(1, &set), prctl(PR_GET_TIMERSLACK), syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0));
  return text;
}

void run(Workload& w, const Setting& setting, std::atomic<int>& set_up, const std::atomic<bool>& verify) {
  apply(setting);
  const std::string before = describe();
  ++set_up;
  while (!verify) pause_for(0.005);
  const std::string now = describe();
  w.check(now == before, "a thread was %s and is %s", before.c_str(), now.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::uint64_t reset_on_fork = 1;
  const Setting settings[] = {
      {{.policy = SCHED_BATCH, .nice = 5}, 0, 100'000, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6)},
      {{.policy = SCHED_IDLE, .nice = 3}, -1, 1, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)},
      {{.policy = SCHED_OTHER, .flags = reset_on_fork, .nice = -7}, 0, 777'777, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 0)},
      {{.policy = SCHED_OTHER, .nice = 19}, -1, 50'000, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0)},
      {{.policy = SCHED_RR, .priority = 3}, -1, 50'000, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0)}};
  std::atomic<int> set_up = 0;
  std::atomic<bool> verify = false;
  std::list<std::thread> threads;
  for (const Setting& setting : settings) {
    threads.emplace_back([&w, &setting, &set_up, &verify] { run(w, setting, set_up, verify); });
  }
  while (set_up < static_cast<int>(std::size(settings))) pause_for(0.001);
  apply({{.policy = SCHED_BATCH, .nice = -2}, -1, 60'000, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 2)});
  write_file("/proc/self/oom_score_adj", "512");
  const std::string before = describe();

  w.ready();
  w.wait_for_verify();
  const std::string now = describe();
  w.check(now == before, "the main thread was %s and is %s", before.c_str(), now.c_str());
  const std::string score = read_file("/proc/self/oom_score_adj");
  w.check(score == "512\n", "oom_score_adj is %s", score.c_str());
  verify = true;
  for (std::thread& thread : threads) thread.join();
  return w.finish();
}
