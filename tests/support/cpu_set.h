// The set of CPU 0 alone. Who is in it in the end goes back to the set of all CPUs.
#pragma once

#include "common/base/fd.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace godwit {

class CpuSet {
 public:
  CpuSet() {
    const bool v1 = std::filesystem::exists("/sys/fs/cgroup/cpuset");
    path_ = fmt::format("/sys/fs/cgroup/{}godwit-aio-{}", v1 ? "cpuset/" : "", ::getpid());
    std::error_code none;
    std::filesystem::create_directory(path_, none);
    made_ = put("cpuset.cpus", "0") && put("cpuset.mems", "0");
  }
  ~CpuSet() {
    std::ifstream members(path_ + "/cgroup.procs");
    for (std::string pid; members >> pid;) put("../cgroup.procs", pid);
    ::rmdir(path_.c_str());
  }
  CpuSet(const CpuSet&) = delete;
  CpuSet& operator=(const CpuSet&) = delete;

  bool take(pid_t pid) const { return made_ && put("cgroup.procs", std::to_string(pid)); }

 private:
  bool put(const char* name, const std::string& text) const {
    const UniqueFd file(::open((path_ + "/" + name).c_str(), O_WRONLY | O_CLOEXEC));
    return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }

  std::string path_;
  bool made_ = false;
};

}  // namespace godwit
