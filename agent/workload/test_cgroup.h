// For tests: a throw-away cgroup below the root of cgroup v2, destroyed with everything in it.
#pragma once

#include "agent/workload/cgroup.h"

namespace godwit::workload {

class TestCgroup {
 public:
  explicit TestCgroup(const std::string& name)
      : path_(fmt::format("{}/godwit-test-{}-{}", cgroup2_mount(), name, ::getpid())), cgroup_(Cgroup::create(path_)) {}
  ~TestCgroup() {
    try {
      Cgroup::destroy(path_, std::chrono::seconds(5));
    } catch (const Error&) {
    }
  }
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;

  const std::string& path() const { return path_; }
  Cgroup& operator*() { return cgroup_; }
  Cgroup* operator->() { return &cgroup_; }

 private:
  std::string path_;
  Cgroup cgroup_;
};

}  // namespace godwit::workload
