#include "agent/engine/resources/unix_address.h"

#include "common/base/fd.h"

#include <cstddef>

#include <sys/stat.h>

namespace godwit::engine::resources {
namespace {

// A socket file that is there already, left behind by a process that is gone, or in use.
void make_way(const std::string& path, const UnixAddress& address) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0 && errno == ENOENT) return;
  if (!S_ISSOCK(st.st_mode)) fail(Errc::already_exists, "{} is in the way of a socket", path);
  const UniqueFd probe(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "create a socket"));
  // Another type of socket says EPROTOTYPE: it lives. Nobody home is ECONNREFUSED.
  if (::connect(probe.get(), address.get(), address.size) == 0 || errno != ECONNREFUSED) {
    fail(Errc::already_exists, "somebody else listens at {}", path);
  }
  check(::unlink(path.c_str()), "remove the stale socket {}", path);
}

}  // namespace

UnixAddress unix_address(const std::string& name) {
  UnixAddress address;
  if (name.size() >= sizeof address.storage.sun_path)
    fail(Errc::image_corrupt, "a socket's name of {} bytes", name.size());
  address.storage.sun_family = AF_UNIX;
  name.copy(address.storage.sun_path, name.size());
  const bool path = !name.empty() && name.front() != '\0';
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (path ? 1 : 0));
  return address;
}

std::string printable(const std::string& name) {
  if (name.empty()) return "(unnamed)";
  return name.front() == '\0' ? "@" + name.substr(1) : name;
}

void bind_unix(int fd, const image::UnixSkEntry& entry) {
  const std::string& name = entry.name();
  if (name.empty()) return;
  const UnixAddress address = unix_address(name);
  const bool path = name.front() != '\0';
  if (path) {
    if (entry.has_name_dir()) check(::chdir(entry.name_dir().c_str()), "enter {}", entry.name_dir());
    make_way(name, address);
  }
  check(::bind(fd, address.get(), address.size), "bind to {}", printable(name));
  if (!path) return;
  if (entry.has_file_perms()) {
    const image::FilePermsEntry& file = entry.file_perms();
    check(::lchown(name.c_str(), file.uid(), file.gid()), "set the owner of {}", name);
    check(::chmod(name.c_str(), file.mode() & 07777), "set the mode of {}", name);
  }
  if (entry.deleted()) check(::unlink(name.c_str()), "remove {}", name);
}

}  // namespace godwit::engine::resources
