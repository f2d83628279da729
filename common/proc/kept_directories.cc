#include "common/proc/kept_directories.h"

#include "common/base/check.h"

#include <fcntl.h>

namespace godwit::proc {
namespace {

constexpr std::size_t most = 256;  // others need descriptors, too

thread_local KeptDirectories* kept = nullptr;

}  // namespace

KeptDirectories::KeptDirectories() : before_(kept) { kept = this; }
KeptDirectories::~KeptDirectories() { kept = before_; }

UniqueFd open_task(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) fail(Errc::target_gone, "there is no {}", path);
  return UniqueFd(check(fd, "open {}", path));
}

UniqueFd open_process(pid_t pid, const std::string& path) {
  if (!kept) return open_task(path);
  auto at = kept->directories_.find(pid);
  if (at == kept->directories_.end()) {
    if (kept->directories_.size() == most) return open_task(path);
    at = kept->directories_.emplace(pid, open_task(path)).first;
  }
  return UniqueFd(check(::fcntl(at->second.get(), F_DUPFD_CLOEXEC, 0), "copy the descriptor of {}", path));
}

}  // namespace godwit::proc
