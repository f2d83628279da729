#include "agent/engine/resources/fd_kinds.h"

#include "agent/engine/resources/epoll.h"
#include "agent/engine/resources/eventfd.h"
#include "agent/engine/resources/fifo.h"
#include "agent/engine/resources/inet_socket.h"
#include "agent/engine/resources/inotify.h"
#include "agent/engine/resources/memfd.h"
#include "agent/engine/resources/path_file.h"
#include "agent/engine/resources/pipe.h"
#include "agent/engine/resources/process_file.h"
#include "agent/engine/resources/regular_file.h"
#include "agent/engine/resources/signalfd.h"
#include "agent/engine/resources/tcp_closed.h"
#include "agent/engine/resources/tcp_listener.h"
#include "agent/engine/resources/terminal.h"
#include "agent/engine/resources/terminal_restore.h"
#include "agent/engine/resources/timerfd.h"
#include "agent/engine/resources/udp.h"
#include "agent/engine/resources/unix_socket.h"

#include <algorithm>
#include <array>

#include <sys/sysmacros.h>

namespace godwit::engine::resources {
namespace {

// In the order in which they are asked. Kinds that share a type in the image share `restore` and `link`.
// clang-format off
constexpr FdKind kinds[] = {
  {image::FD_REG, "O_PATH", path_file::is_path_only, path_file::refusal, path_file::dump, regular_file::restore, regular_file::link},
  {image::FD_MEMFD, "memfd", memfd::matches, memfd::refusal, memfd::dump, memfd::restore, memfd::link},
  {image::FD_REG, "regular file", regular_file::matches, regular_file::refusal, regular_file::dump, regular_file::restore, regular_file::link},
  {image::FD_REG, "directory", path_file::is_directory, path_file::directory_refusal, path_file::dump, regular_file::restore, regular_file::link},
  {image::FD_REG, "device", path_file::is_device, path_file::refusal, path_file::dump, regular_file::restore, regular_file::link},
  {image::FD_TTY, "terminal", terminal::matches, terminal::refusal, terminal::dump, terminal::restore, terminal::link},
  {image::FD_PIPE, "pipe", pipe::matches, pipe::refusal, pipe::dump, pipe::restore, pipe::link},
  {image::FD_FIFO, "fifo", fifo::matches, fifo::refusal, fifo::dump, fifo::restore, fifo::link},
  {image::FD_EVENTFD, "eventfd", eventfd::matches, eventfd::refusal, eventfd::dump, eventfd::restore, eventfd::link},
  {image::FD_EVENTPOLL, "epoll", epoll::matches, epoll::refusal, epoll::dump, epoll::restore, epoll::link},
  {image::FD_TIMERFD, "timerfd", timerfd::matches, timerfd::refusal, timerfd::dump, timerfd::restore, timerfd::link},
  {image::FD_SIGNALFD, "signalfd", signalfd::matches, signalfd::refusal, signalfd::dump, signalfd::restore, signalfd::link},
  {image::FD_INOTIFY, "inotify", inotify::matches, inotify::refusal, inotify::dump, inotify::restore, inotify::link},
  {image::FD_PIDFD, "pidfd", process_file::matches, process_file::refusal, process_file::dump, process_file::restore, process_file::link},
  {image::FD_INETSK, "tcp listener", tcp_listener::matches, tcp_listener::refusal, tcp_listener::dump, inet_socket::restore, inet_socket::link},
  {image::FD_INETSK, "tcp closed", tcp_closed::matches, tcp_closed::refusal, tcp_closed::dump, inet_socket::restore, inet_socket::link},
  {image::FD_INETSK, "udp", udp::matches, udp::refusal, udp::dump, inet_socket::restore, inet_socket::link},
  {image::FD_UNIXSK, "unix socket", unix_socket::matches, unix_socket::refusal, unix_socket::dump, unix_socket::restore, unix_socket::link},
};
// clang-format on

static_assert(std::ranges::all_of(kinds, [](const FdKind& a) {
  return std::ranges::all_of(
      kinds, [&](const FdKind& b) { return a.type != b.type || (a.restore == b.restore && a.link == b.link); });
}));

struct Unknown {
  std::string_view prefix;  // of the link
  std::string_view reason;
  std::string_view hint;
};

constexpr Unknown unknown[] = {
    {"anon_inode:[io_uring]", "io_uring instances cannot be carried: requests in flight live in the kernel",
     "configure the program to use epoll instead of io_uring"},
    {"anon_inode:[userfaultfd]", "the program handles its own page faults (userfaultfd)",
     "wait until the program has closed it; postcopy receivers cannot move"},
    {"anon_inode:[fanotify]", "fanotify marks cannot be carried", "use inotify, or stop watching before the move"},
    {"anon_inode:[perf_event]", "performance counters belong to this machine's hardware",
     "detach the profiler before the move"},
    {"anon_inode:bpf", "BPF objects cannot be carried", "unload the program, and load it again at the destination"},
    {"anon_inode:kvm", "virtual machines need their own live migration", "use the hypervisor's migration"},
    {"anon_inode:[landlock-ruleset]", "Landlock rule sets cannot be carried", "close it after applying it"},
    {"anon_inode:seccomp notify", "seccomp supervisors cannot be carried",
     "move the supervised process without its supervisor"},
    {"/secretmem", "secret memory cannot be read from outside, by design",
     "the program must give it up (memfd_secret)"},
    {"/dev/console", "a console belongs to its host", "start it on a pseudo terminal, or with setsid"},
    {"/dev/tty", "a console or a serial line belongs to its host", "start it on a pseudo terminal, or with setsid"},
    {"mnt:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"net:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"pid:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"user:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"ipc:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"uts:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"time:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"cgroup:", "open namespaces cannot be carried", "close the namespace's descriptor"},
    {"/dmabuf:", "buffers of a device cannot be carried", "close it before the move"},
    {"anon_inode:", "this kind of file cannot be carried", "close it before the move"},
};

std::string_view family_name(int domain) {
  switch (domain) {
    case AF_UNIX: return "unix";
    case AF_INET: return "IPv4";
    case AF_INET6: return "IPv6";
    case AF_NETLINK: return "netlink";
    case AF_PACKET: return "packet";
    case AF_VSOCK: return "vsock";
    case AF_ALG: return "crypto";
    case AF_XDP: return "XDP";
    default: return "unknown";
  }
}

std::string_view type_name(int type) {
  switch (type) {
    case SOCK_STREAM: return "stream";
    case SOCK_DGRAM: return "datagram";
    case SOCK_SEQPACKET: return "seqpacket";
    case SOCK_RAW: return "raw";
    default: return "other";
  }
}

}  // namespace

std::span<const FdKind> fd_kinds() { return kinds; }

const FdKind* kind_of(const FdView& view) {
  const auto at = std::ranges::find_if(kinds, [&](const FdKind& kind) { return kind.matches(view); });
  return at == std::end(kinds) ? nullptr : &*at;
}

const FdKind& kind_of(image::FdType type) {
  const auto at = std::ranges::find(kinds, type, &FdKind::type);
  if (at == std::end(kinds)) fail(Errc::unsupported, "files of type {} cannot be restored", image::FdType_Name(type));
  return *at;
}

Refusal refuse_unknown(const FdView& view) {
  if (view.socket) {
    return {fmt::format("{} ({} {} socket, protocol {})", view.describe(), family_name(view.socket->domain),
                        type_name(view.socket->type), view.socket->protocol),
            "sockets of this kind cannot be carried", "close it before the move"};
  }
  for (const Unknown& kind : unknown) {
    if (view.link.starts_with(kind.prefix)) return {view.describe(), std::string(kind.reason), std::string(kind.hint)};
  }
  if (S_ISCHR(view.st.st_mode) || S_ISBLK(view.st.st_mode)) {
    return {view.describe(),
            fmt::format("the state of device {}:{} cannot be carried", major(view.st.st_rdev), minor(view.st.st_rdev)),
            "close the device before the move"};
  }
  if (S_ISREG(view.st.st_mode)) {
    return {view.describe(), "POSIX message queues (mqueue) cannot be carried yet", "close the queue before the move"};
  }
  return {view.describe(), "this kind of file cannot be carried", "close it before the move"};
}

}  // namespace godwit::engine::resources
