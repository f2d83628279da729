#include "agent/engine/resources/unix_socket.h"

#include "agent/engine/resources/become.h"
#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/path_file.h"
#include "agent/engine/resources/socket_options.h"
#include "agent/engine/resources/unix_diag.h"
#include "agent/engine/resources/unix_pair.h"

#include <netinet/tcp.h>
#include <poll.h>

namespace godwit::engine::resources::unix_socket {
namespace {

UnixSocketInfo info_of(const FdView& view) {
  std::optional<UnixSocketInfo> info = query_unix_socket(view, static_cast<std::uint32_t>(view.st.st_ino));
  if (!info) fail(Errc::internal, "the kernel does not know {}", view.describe());
  return *info;
}

bool connectionless(const FdView& view) { return view.socket->type == SOCK_DGRAM; }

bool is_path(const std::string& name) { return !name.empty() && name.front() != '\0'; }

std::string absolute(const FdView& view, const std::string& name) {
  return name.starts_with('/') ? name : proc::Reader(view.pid).link("cwd") + "/" + name;
}

// The file that the socket is bound to, as the task finds it; nothing when the path leads elsewhere.
std::optional<struct stat> bound_file(const FdView& view, const UnixSocketInfo& info) {
  struct stat st{};
  if (::lstat(path_file::reach(view.pid, absolute(view, info.name)).c_str(), &st) != 0) return std::nullopt;
  if (static_cast<std::uint32_t>(st.st_ino) != info.file_inode) return std::nullopt;
  return st;
}

void note_name(const FdView& view, const UnixSocketInfo& info, SurveyContext& context) {
  if (!is_path(info.name)) return;
  const auto file = bound_file(view, info);
  if (!file) return;  // deleted
  context.bound.push_back({.path = absolute(view, info.name),
                           .inode = file->st_ino,
                           .changed_ns = file->st_ctim.tv_sec * 1'000'000'000 + file->st_ctim.tv_nsec});
}

std::string socket_link(std::uint32_t inode) { return fmt::format("socket:[{}]", inode); }

void restore_pair(const image::FileEntry& entry, const image::FileEntry& peer, RestoreContext& context, UniqueFd& own) {
  UnixPair pair = make_unix_pair(entry.usk(), peer.usk());
  const std::map<std::uint32_t, std::vector<std::string>> queues = read_unix_queues(context.images);
  fill_unix_pair(pair, entry.usk(), peer.usk(), queues);
  own = std::move(pair.first);
  context.parked[peer.id()] = std::move(pair.second);
}

const image::FileEntry* find_peer(const image::UnixSkEntry& socket, const RestoreContext& context) {
  if (socket.peer() == 0) return nullptr;
  for (const auto& [id, entry] : context.files) {
    if (entry.type() == image::FD_UNIXSK && entry.usk().ino() == socket.peer()) return &entry;
  }
  return nullptr;
}

}  // namespace

bool matches(const FdView& view) {
  if (!view.socket || view.socket->domain != AF_UNIX) return false;
  const int type = view.socket->type;
  return type == SOCK_STREAM || type == SOCK_SEQPACKET || type == SOCK_DGRAM;
}

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  if (std::optional<Refusal> refused = refuse_socket(view, context)) return refused;
  if (const auto holder = context.outside.find(view.link); holder != context.outside.end()) {
    return Refusal{view.describe(), fmt::format("the socket is also held by process {}", holder->second),
                   "end that process before the move"};
  }
  const UnixSocketInfo info = info_of(view);
  const std::string what = fmt::format("{} (unix, {})", view.describe(), printable(info.name));
  if (is_path(info.name) && !info.name.starts_with('/') && !bound_file(view, info)) {
    return Refusal{what, "it is bound to a relative path that does not start in the working directory",
                   "bind to an absolute path"};
  }
  if (info.state == TCP_LISTEN) context.listening.push_back(fmt::format("unix {}", printable(info.name)));
  if (info.state == TCP_LISTEN || connectionless(view)) note_name(view, info, context);
  if (info.peer == 0 || context.held.contains(socket_link(info.peer))) return std::nullopt;
  const std::optional<UnixSocketInfo> peer = query_unix_socket(view, info.peer);
  if (connectionless(view) && peer && is_path(peer->name)) {
    context.notices.push_back(fmt::format("{} is connected again to {} of the destination", what, peer->name));
    return std::nullopt;
  }
  return Refusal{what,
                 fmt::format("it is connected to a socket of another process ({})", printable(peer ? peer->name : "")),
                 "close the connection before the move", "--ext-unix-sk"};
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  const UnixSocketInfo info = info_of(view);
  if (info.state == TCP_LISTEN && info.pending != 0) {
    fail(Errc::busy, "{} connections to {} wait to be accepted", info.pending, printable(info.name));
  }
  image::UnixSkEntry& socket = *entry.mutable_usk();
  socket.set_id(entry.id());
  socket.set_ino(static_cast<std::uint32_t>(view.st.st_ino));
  socket.set_type(static_cast<std::uint32_t>(info.type));
  socket.set_state(static_cast<std::uint32_t>(info.state));
  socket.set_flags(view.flags());
  socket.set_uflags(0);
  socket.set_backlog(info.state == TCP_LISTEN ? info.backlog : 0);
  socket.set_peer(info.peer);
  *socket.mutable_fown() = dump_fown(view.fd);
  *socket.mutable_opts() = dump_socket_options(view, OptionSet::all);
  // A path has its final NUL, as in the kernel's address.
  socket.set_name(is_path(info.name) ? info.name + '\0' : info.name);
  socket.set_owner(view.st.st_uid);
  ucred shown{};
  socklen_t size = sizeof shown;
  if (info.state != TCP_CLOSE && ::getsockopt(view.fd, SOL_SOCKET, SO_PEERCRED, &shown, &size) == 0 && shown.pid != 0) {
    // Of a listener its own, of a connection the peer's; ends of one task have the same.
    socket.set_shown_uid(shown.uid);
    socket.set_shown_gid(shown.gid);
  }
  socket.set_shutdown(static_cast<image::SkShutdown>(info.shutdown & 3));
  if (is_path(info.name)) {
    if (const auto file = bound_file(view, info)) {
      image::FilePermsEntry& perms = *socket.mutable_file_perms();
      perms.set_mode(file->st_mode);
      perms.set_uid(file->st_uid);
      perms.set_gid(file->st_gid);
    } else if (info.state == TCP_LISTEN || connectionless(view)) {
      socket.set_deleted(true);  // of an accepted connection, the file is its listener's
    }
    if (!info.name.starts_with('/')) socket.set_name_dir(proc::Reader(view.pid).link("cwd"));
  }
  if (connectionless(view) && info.peer != 0) {
    const std::optional<UnixSocketInfo> peer = query_unix_socket(view, info.peer);
    if (peer) socket.set_peer_name(peer->name);
  }
  pollfd poll{view.fd, 0, 0};
  check(::poll(&poll, 1, 0), "poll {}", view.describe());
  if ((poll.revents & POLLERR) != 0) socket.set_reset(true);
  dump_unix_queue(view, entry.id(), context.out);
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context) {
  const image::UnixSkEntry& socket = entry.usk();
  UniqueFd fd;
  if (const auto parked = context.parked.find(entry.id()); parked != context.parked.end()) {
    fd = std::move(parked->second);
    context.parked.erase(parked);
  } else if (const image::FileEntry* peer = find_peer(socket, context);
             peer != nullptr && is_unix_pair(socket, peer->usk())) {
    restore_pair(entry, *peer, context, fd);
  } else if (socket.state() == TCP_ESTABLISHED && socket.type() != SOCK_DGRAM) {
    if (socket.peer() != 0)
      fail(Errc::unsupported, "the other end of unix socket {} is not in the image", socket.ino());
    fd = make_unix_orphan(socket, read_unix_queues(context.images));
  } else {
    fd = UniqueFd(check(::socket(AF_UNIX, static_cast<int>(socket.type()) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                        "create a unix socket"));
    bind_unix(fd.get(), socket);
    if (socket.state() == TCP_LISTEN) {
      const Become shown({.euid = socket.shown_uid(), .egid = socket.shown_gid()});
      check(::listen(fd.get(), static_cast<int>(socket.backlog())), "listen at {}", printable(socket.name()));
    }
    fill_unix_datagrams(socket, read_unix_queues(context.images));
  }
  if (socket.owner() != 0)
    check(::fchown(fd.get(), socket.owner(), static_cast<gid_t>(-1)), "give a socket to user {}", socket.owner());
  restore_socket_options(fd.get(), socket.opts());
  return fd;
}

void link(const image::FileEntry& entry, int fd, RestoreContext& context) {
  const image::UnixSkEntry& socket = entry.usk();
  if (socket.type() != SOCK_DGRAM || socket.peer_name().empty()) return;
  if (const image::FileEntry* peer = find_peer(socket, context); peer != nullptr && is_unix_pair(socket, peer->usk()))
    return;
  const UnixAddress address = unix_address(socket.peer_name());
  check(::connect(fd, address.get(), address.size), "connect to {}", printable(socket.peer_name()));
}

}  // namespace godwit::engine::resources::unix_socket
