#include "agent/engine/resources/fd_view.h"

#include "agent/engine/resources/pidfd.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::engine::resources {
namespace {

std::optional<SocketType> socket_type(const FdView& view) {
  if (!S_ISSOCK(view.st.st_mode) || (view.info.flags & O_PATH) != 0) return std::nullopt;
  SocketType type;
  const auto read = [&](int name, int& into) {
    socklen_t size = sizeof into;
    check(::getsockopt(view.fd, SOL_SOCKET, name, &into, &size), "read the type of {}", view.describe());
  };
  read(SO_DOMAIN, type.domain);
  read(SO_TYPE, type.type);
  read(SO_PROTOCOL, type.protocol);
  if (type.protocol == IPPROTO_TCP && type.type == SOCK_STREAM) {
    std::uint8_t state = 0;  // the first member of tcp_info
    socklen_t size = sizeof state;
    check(::getsockopt(view.fd, IPPROTO_TCP, TCP_INFO, &state, &size), "read the state of {}", view.describe());
    type.tcp_state = state;
  }
  return type;
}

}  // namespace

std::string FdView::describe() const { return fmt::format("fd {}: {}", number, link); }

std::optional<OwnedFdView> view_fd(const proc::Reader& proc, pid_t pid, int pidfd, int number) {
  OwnedFdView result;
  FdView& view = result.view;
  const int copy = pidfd_getfd(pidfd, number);
  if (copy < 0 && errno == EBADF) return std::nullopt;
  result.copy = UniqueFd(check(copy, "copy descriptor {} of task {}", number, pid));
  view.pid = pid;
  view.number = number;
  view.fd = result.copy.get();
  check(::fstat(view.fd, &view.st), "stat descriptor {} of task {}", number, pid);
  try {
    view.link = proc.fd_link(number);
    view.info = proc.fdinfo(number);
  } catch (const Error& e) {
    if (e.sys_errno() == ENOENT) return std::nullopt;  // closed since
    throw;
  }
  // On a running task the number may have become another file between the two looks.
  if (view.info.inode != 0 && view.info.inode != view.st.st_ino) return std::nullopt;
  view.socket = socket_type(view);
  return result;
}

FdView view_own_fd(int fd) {
  FdView view{.pid = ::getpid(), .number = fd, .fd = fd};
  view.link = read_link(fmt::format("/proc/self/fd/{}", fd));
  view.info = read_own_fdinfo(fd);
  check(::fstat(fd, &view.st), "stat descriptor {}", fd);
  view.socket = socket_type(view);
  return view;
}

proc::Fdinfo read_own_fdinfo(int fd) { return proc::parse_fdinfo(read_file(fmt::format("/proc/self/fdinfo/{}", fd))); }

}  // namespace godwit::engine::resources
