#include "agent/engine/ptrace/cgroup.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/units.h"

#include <fcntl.h>

namespace godwit::engine {

Cgroup::Cgroup(std::string path) : path_(std::move(path)) {
  if (::access((path_ + "/cgroup.freeze").c_str(), W_OK) != 0)
    fail(Errc::not_found, "{} is not a cgroup (v2) that can be frozen", path_);
}

void Cgroup::write(const char* file, const std::string& text) const {
  UniqueFd fd = open_file(path_ + "/" + file, O_WRONLY);
  check(::write(fd.get(), text.data(), text.size()), "write {} to {}/{}", text, path_, file);
}

void Cgroup::add(pid_t pid) const { write("cgroup.procs", std::to_string(pid)); }
void Cgroup::freeze() const { write("cgroup.freeze", "1"); }
void Cgroup::thaw() const { write("cgroup.freeze", "0"); }
bool Cgroup::asked_to_freeze() const { return read_file(path_ + "/cgroup.freeze").starts_with("1"); }
bool Cgroup::frozen() const { return read_file(path_ + "/cgroup.events").find("frozen 1") != std::string::npos; }

void Cgroup::wait_frozen(std::chrono::milliseconds limit) const {
  const std::uint64_t deadline = monotonic_ns() + static_cast<std::uint64_t>(limit.count()) * 1'000'000;
  while (!frozen()) {
    if (monotonic_ns() > deadline) fail(Errc::timed_out, "{} did not freeze within {} ms", path_, limit.count());
    ::usleep(50);
  }
}

}  // namespace godwit::engine
