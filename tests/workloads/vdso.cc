// Checks: the vdso and its data pages are where the auxiliary vector says, and its clocks agree with the kernel's,
// even in threads that sit in them all the time.

#include "tests/workloads/workload.h"

#include <cmath>
#include <ctime>
#include <list>
#include <sched.h>
#include <sstream>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

std::string vdso_lines() {
  std::string text;
  std::istringstream maps(read_file("/proc/self/maps"));
  for (std::string line; std::getline(maps, line);) {
    if (line.find("[vdso]") != line.npos || line.find("[vvar") != line.npos) text += line + "\n";
  }
  return text;
}

double seconds(const timespec& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9; }

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string before = vdso_lines();
  const unsigned long base = getauxval(AT_SYSINFO_EHDR);
  std::atomic<bool> stop = false;
  std::list<std::thread> threads;
  for (const clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE}) {
    threads.emplace_back([&w, &stop, clock] {
      while (!stop) {
        timespec kernel_first, vdso, kernel_then;
        syscall(SYS_clock_gettime, clock, &kernel_first);
        w.check(clock_gettime(clock, &vdso) == 0, "clock_gettime: %m");
        syscall(SYS_clock_gettime, clock, &kernel_then);
        unsigned cpu = ~0u;
        w.check(getcpu(&cpu, nullptr) == 0 && cpu < 4096, "getcpu says %u", cpu);
        // A move may happen between any two of them; on another host another monotonic clock runs.
        if (seconds(kernel_then) - seconds(kernel_first) < 0 || seconds(kernel_then) - seconds(kernel_first) > 0.001)
          continue;
        w.check(seconds(vdso) >= seconds(kernel_first) - 0.005 && seconds(vdso) <= seconds(kernel_then) + 0.005,
                "clock %d is %.6f in the vdso and %.6f in the kernel", clock, seconds(vdso), seconds(kernel_then));
      }
    });
  }

  w.ready();
  w.wait_for_verify();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const std::string now = vdso_lines();
  w.check(now == before, "the vdso was\n%sand is\n%s", before.c_str(), now.c_str());
  w.check(getauxval(AT_SYSINFO_EHDR) == base, "AT_SYSINFO_EHDR changed");
  w.check(base != 0 && *reinterpret_cast<const std::uint32_t*>(base) == 0x464c457f,
          "there is no ELF header at AT_SYSINFO_EHDR");
  return w.finish();
}
