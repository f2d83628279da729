#pragma once
// Filters of seccomp for the calling thread.

#include "tests/workloads/workload.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace godwit::workloads {

// As seccomp(2) returns it.
inline long add_filter(std::vector<sock_filter> code, unsigned flags = 0) {
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

constexpr sock_filter load_number{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)};
constexpr sock_filter unless(long number, unsigned char skip) {
  return {BPF_JMP | BPF_JEQ | BPF_K, 0, skip, static_cast<unsigned>(number)};
}
constexpr sock_filter answer(unsigned action) { return {BPF_RET | BPF_K, 0, 0, action}; }

// `number` gets this answer, every other call is allowed.
inline long add_filter(long number, unsigned action, unsigned flags = 0) {
  return add_filter({load_number, unless(number, 1), answer(action), answer(SECCOMP_RET_ALLOW)}, flags);
}

// Only these are allowed; any other call is the end of the process.
inline long allow_only(std::initializer_list<long> numbers, unsigned flags = 0) {
  std::vector<sock_filter> code{load_number};
  for (const long number : numbers) {
    code.push_back(unless(number, 1));
    code.push_back(answer(SECCOMP_RET_ALLOW));
  }
  code.push_back(answer(SECCOMP_RET_KILL_PROCESS));
  return add_filter(code, flags);
}

// "Seccomp: MODE, COUNT filters", from the status of a thread.
inline std::string seccomp_state(const std::string& directory = "/proc/thread-self") {
  const std::string status = read_file(directory + "/status");
  const auto field = [&](const std::string& name) {
    const std::size_t at = status.find("\n" + name + ":\t");
    return at == std::string::npos
               ? "no"
               : status.substr(at + name.size() + 3, status.find('\n', at + 1) - at - name.size() - 3);
  };
  return "mode " + field("Seccomp") + ", " + field("Seccomp_filters") + " filters";
}

// What a call of this number ends with, 0 for success.
inline int error_of(long number) { return syscall(number, 0, 0) == -1 ? errno : 0; }

// A thread that begins by doing something, adding filters most often, and then does what it is told, one after another.
class Member {
 public:
  Member(std::string name, std::function<void()> begin) : name_(std::move(name)) {
    thread_ = std::thread([this, begin] {
      begin();
      before_ = seccomp_state();
      settled_ = true;
      while (!ending_) {
        if (asked_) {
          work_();
          asked_ = false;
        }
        pause_for(0.002);
      }
    });
    while (!settled_) pause_for(0.001);
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  void run(std::function<void()> work) {
    work_ = std::move(work);
    asked_ = true;
    while (asked_) pause_for(0.001);
  }
  void verify(Workload& w, std::function<void()> more) {
    run([&] {
      const std::string now = seccomp_state();
      w.check(now == before_, "%s had %s and has %s", name_.c_str(), before_.c_str(), now.c_str());
      more();
    });
  }
  void end() {
    ending_ = true;
    thread_.join();
  }

 private:
  const std::string name_;
  std::string before_;
  std::function<void()> work_;
  std::atomic<bool> settled_ = false, asked_ = false, ending_ = false;
  std::thread thread_;
};

}  // namespace godwit::workloads
