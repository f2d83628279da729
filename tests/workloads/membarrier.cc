// Checks: the membarrier registrations of the address space: a private expedited barrier still works.

#include "tests/workloads/workload.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr int get_registrations = 1 << 9;  // 6.3+

long membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  must(membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED), "membarrier");
  must(membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE), "membarrier");
  const long before = membarrier(get_registrations);
  std::atomic<bool> stop = false;
  std::thread spinner([&] {
    while (!stop) {
    }
  });

  w.ready();
  w.wait_for_verify(
      [&] { w.check(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0, "a private expedited barrier: %m"); });
  w.check(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0, "a private expedited barrier: %m");
  w.check(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) == 0, "a private expedited sync-core barrier: %m");
  w.check(membarrier(get_registrations) == before, "the registrations are %ld, were %ld", membarrier(get_registrations),
          before);
  stop = true;
  spinner.join();
  return w.finish();
}
