// For tests: a fault that happens once, in this process, armed while the object lives.
#pragma once

#include "agent/workload/cgroup.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <csignal>
#include <cstdlib>
#include <string>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::service {

// Named before any fault point looks for it; the file is there only while a test arms something.
inline const std::string fault_file = fmt::format("/tmp/godwit-agent-test-{}", ::getpid());
inline const int fault_file_is_named = ::setenv("GODWIT_FAULT_FILE", fault_file.c_str(), 1);

struct ArmedFault {
  explicit ArmedFault(const std::string& text) { write_file(fault_file, text); }
  ~ArmedFault() { ::unlink(fault_file.c_str()); }
  ArmedFault(const ArmedFault&) = delete;
  ArmedFault& operator=(const ArmedFault&) = delete;

  bool has_struck() const { return ::access(fault_file.c_str(), F_OK) != 0; }
};

// This process stands at a fault point, armed with `stop`, until nobody is left in that cgroup: however long that takes
// on a busy machine.
class StandsUntilEmpty {
 public:
  explicit StandsUntilEmpty(const std::string& cgroup) : helper_(::fork()) {
    if (helper_ == 0) continue_parent(cgroup);
  }
  ~StandsUntilEmpty() {
    ::kill(helper_, SIGKILL);
    ::waitpid(helper_, nullptr, 0);
  }
  StandsUntilEmpty(const StandsUntilEmpty&) = delete;
  StandsUntilEmpty& operator=(const StandsUntilEmpty&) = delete;

 private:
  [[noreturn]] static void continue_parent(const std::string& cgroup) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const pid_t parent = ::getppid();
    const auto stands = [&] { return proc::Reader(parent).stat().state == 'T'; };
    const auto empty = [&] {
      try {
        const auto there = workload::Cgroup::open(cgroup);
        return !there || !there->populated();
      } catch (const Error&) {
        return false;  // it is being removed
      }
    };
    while (!stands() || !empty()) ::usleep(2'000);
    ::kill(parent, SIGCONT);
    ::_exit(0);
  }

  pid_t helper_;
};

}  // namespace godwit::service
