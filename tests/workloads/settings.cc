// Checks: the rare settings of a process and a thread: RDTSC, CPUID, speculation and memory error switches, the time
// slice, huge pages except where advised, merging of pages, no memory both writable and executable, the autogroup, the
// login's user.

#include "tests/workloads/workload.h"

#include <linux/prctl.h>
#include <sched.h>
#include <sstream>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <thread>

using namespace godwit::workloads;

namespace {

constexpr int set_mdwe = 65, get_mdwe = 66, set_merge = 67, get_merge = 68;  // PR_..., not in older headers
constexpr long except_advised = 2;                                           // PR_THP_DISABLE_EXCEPT_ADVISED, 6.18+

struct Scheduling {  // sched_attr; the kernel's header and glibc's cannot both be included
  std::uint32_t size = 48, policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t slice = 0, deadline = 0, period = 0;
};

Scheduling scheduling() {
  Scheduling attr;
  must(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0), "sched_getattr");
  return attr;
}

// A thread that may not read the time stamp counter must not look at a clock, either.
class Timeless {
 public:
  Timeless() {
    must(pipe(ends_), "pipe");
    thread_ = std::thread([this] {
      must(prctl(PR_SET_TSC, PR_TSC_SIGSEGV), "PR_SET_TSC");
      set_ = true;
      char byte;
      must(read(ends_[0], &byte, 1), "read");
      prctl(PR_GET_TSC, &mode_);
    });
    while (!set_) pause_for(0.001);
  }
  int mode() {
    must(write(ends_[1], "x", 1), "write");
    thread_.join();
    return mode_;
  }

 private:
  int ends_[2];
  std::atomic<bool> set_ = false;
  int mode_ = 0;
  std::thread thread_;
};

// Forbids a thread of its own CPUID, where the processor can. Whether it is forbidden shows in the end.
class Unidentified {
 public:
  Unidentified() {
    thread_ = std::thread([this] {
      forbidden_ = syscall(SYS_arch_prctl, set_cpuid, 0) == 0;
      set_ = true;
      while (!asked_) pause_for(0.001);
      allowed_ = syscall(SYS_arch_prctl, get_cpuid, 0) != 0;
    });
    while (!set_) pause_for(0.001);
  }
  bool still_forbidden() {
    asked_ = true;
    thread_.join();
    return !(forbidden_ && allowed_);
  }

 private:
  static constexpr int get_cpuid = 0x1011, set_cpuid = 0x1012;  // ARCH_..., not in older headers
  std::atomic<bool> forbidden_ = false, allowed_ = false, set_ = false, asked_ = false;
  std::thread thread_;
};

// Of the mapping around `at`: the kernel may have merged it with its neighbours.
bool mergeable(const void* at) {
  std::istringstream smaps(read_file("/proc/self/smaps"));
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long start = 0, end = 0;
    if (sscanf(line.c_str(), "%lx-%lx ", &start, &end) == 2)
      here = start <= reinterpret_cast<unsigned long>(at) && reinterpret_cast<unsigned long>(at) < end;
    else if (here && line.starts_with("VmFlags:"))
      return line.find(" mg") != std::string::npos;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  Timeless timeless;
  Unidentified unidentified;
  write_file("/proc/self/autogroup", "3");
  write_file("/proc/self/loginuid", "4711");
  must(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0), "PR_MCE_KILL");
  const bool speculation = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0) & PR_SPEC_PRCTL;
  if (speculation)
    must(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0), "PR_SET_SPECULATION_CTRL");
  const int before = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
  Scheduling attr = scheduling();
  attr.slice = 5'000'000;
  must(syscall(SYS_sched_setattr, 0, &attr, 0), "sched_setattr");
  const bool slices = scheduling().slice == 5'000'000;  // 6.12+
  if (prctl(PR_SET_THP_DISABLE, 1, except_advised, 0, 0) != 0)
    must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), "PR_SET_THP_DISABLE");
  const int huge = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
  char* const merged = map(1 << 16);
  char* const guarded = map(1 << 20);  // apart
  must(mprotect(guarded, 1 << 20, PROT_NONE), "mprotect");
  char* const separate = map(1 << 16);
  must(prctl(set_merge, 1, 0, 0, 0), "PR_SET_MEMORY_MERGE");
  must(madvise(separate, 1 << 16, MADV_UNMERGEABLE), "MADV_UNMERGEABLE");
  must(prctl(set_mdwe, 1, 0, 0, 0), "PR_SET_MDWE");

  w.ready();
  w.wait_for_verify();
  w.check(unidentified.still_forbidden(), "CPUID is allowed");
  w.check(timeless.mode() == PR_TSC_SIGSEGV, "RDTSC is allowed");
  w.check(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY, "the memory error policy is %d",
          prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
  w.check(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0) == before, "the speculation switch is %d",
          prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0));
  w.check(!slices || scheduling().slice == 5'000'000, "the slice is %llu ns",
          static_cast<unsigned long long>(scheduling().slice));
  w.check(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == huge, "the huge page switch is %d, not %d",
          prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), huge);
  w.check(prctl(get_merge, 0, 0, 0, 0) == 1, "pages are not merged");
  w.check(mergeable(merged), "memory is not mergeable any more");
  w.check(!mergeable(separate), "memory is mergeable that was not to be");
  w.check(prctl(get_mdwe, 0, 0, 0, 0) == 1, "memory may be writable and executable");
  w.check(read_file("/proc/self/autogroup").find(" nice 3") != std::string::npos, "the autogroup is %s",
          read_file("/proc/self/autogroup").c_str());
  w.check(read_file("/proc/self/loginuid") == "4711", "the login's user is %s",
          read_file("/proc/self/loginuid").c_str());
  return w.finish();
}
