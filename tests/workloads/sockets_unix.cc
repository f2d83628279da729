// Checks: unix sockets that listen (stream, seqpacket) or are bound (datagram), at paths and abstract names, and ones
// that are merely made: names, options, owners, the socket files, and that clients still get through.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Name {
  sockaddr_un address{.sun_family = AF_UNIX};
  socklen_t size = 0;
  explicit Name(const std::string& text) {
    if (text.size() >= sizeof address.sun_path) give_up("a path too long for a socket");
    std::memcpy(address.sun_path, text.data(), text.size());
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + (text[0] != 0 ? 1 : 0));
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  bool is_of(int fd) const {
    sockaddr_un now{};
    socklen_t size_now = sizeof now;
    getsockname(fd, reinterpret_cast<sockaddr*>(&now), &size_now);
    return size_now == size && std::memcmp(&now, &address, size) == 0;
  }
};

int make(int type, const Name& name) {
  const int fd = must(socket(AF_UNIX, type | SOCK_CLOEXEC, 0), "socket");
  must(bind(fd, name.get(), name.size), "bind");
  return fd;
}

void serve(Workload& w, int listener, int type, const Name& name, const char* what) {
  w.check(name.is_of(listener), "%s has another name", what);
  const int client = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  w.check(connect(client, name.get(), name.size) == 0, "connecting to %s: %m", what);
  ucred served{};
  socklen_t size = sizeof served;
  w.check(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &served, &size) == 0 && served.uid == geteuid() &&
              served.gid == getegid(),
          "%s shows itself as user %u, group %u", what, served.uid, served.gid);
  if (!w.check(readable(listener), "%s sees no client", what)) return;
  const int accepted = accept(listener, nullptr, nullptr);
  char got[4];
  w.check(write(client, "ping", 4) == 4 && readable(accepted) && read(accepted, got, 4) == 4 &&
              std::memcmp(got, "ping", 4) == 0,
          "%s: nothing arrives", what);
  close(client);
  close(accepted);
}

// How many clients a listener takes before one would have to wait.
int room(const Name& name, int type) {
  int clients[64];
  int count = 0;
  while (count < 64) {
    clients[count] = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(clients[count], name.get(), name.size) != 0) break;
    ++count;
  }
  for (int i = 0; i <= count && i < 64; ++i) close(clients[i]);
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string abstract(1, '\0');
  const std::string own = "godwit-workload-" + std::to_string(getpid()) + "-";
  const Name stream_path(w.path("local/stream")), packet_path(w.path("local/packet")),
      datagram_path(w.path("local/datagram"));
  const Name stream_abstract(abstract + own + "stream" + abstract + "x"),
      datagram_abstract(abstract + own + "datagram");
  const int stream = make(SOCK_STREAM, stream_path);
  must(chmod(w.path("local/stream").c_str(), 0712), "chmod");
  must(listen(stream, 5), "listen");
  const int packets = make(SOCK_SEQPACKET | SOCK_NONBLOCK, packet_path);
  must(listen(packets, 9), "listen");
  const int hidden = make(SOCK_STREAM, stream_abstract);
  must(listen(hidden, 2), "listen");
  const int datagrams = make(SOCK_DGRAM, datagram_path);
  const int hidden_datagrams = make(SOCK_DGRAM | SOCK_NONBLOCK, datagram_abstract);
  const int yes = 1, buffer = 60'000;
  must(setsockopt(datagrams, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes), "SO_PASSCRED");
  must(setsockopt(datagrams, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer), "SO_SNDBUF");
  int sent_before = 0;
  socklen_t size = sizeof sent_before;
  getsockopt(datagrams, SOL_SOCKET, SO_SNDBUF, &sent_before, &size);
  const int unbound = must(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
  if (geteuid() == 0) must(chown(w.path("local/stream").c_str(), 0, 4711), "chown");
  struct stat file{};
  must(stat(w.path("local/stream").c_str(), &file), "stat");
  const int fds[] = {stream, packets, hidden, datagrams, hidden_datagrams, unbound};
  std::map<std::string, std::string> options[std::size(fds)];
  for (std::size_t i = 0; i < std::size(fds); ++i) options[i] = socket_options(fds[i]);

  w.ready();
  w.wait_for_verify();

  serve(w, stream, SOCK_STREAM, stream_path, "the stream listener");
  serve(w, packets, SOCK_SEQPACKET, packet_path, "the seqpacket listener");
  serve(w, hidden, SOCK_STREAM, stream_abstract, "the abstract listener");
  w.check(room(stream_abstract, SOCK_STREAM) == 3, "the abstract listener's backlog is not 2");
  struct stat about{};
  w.check(
      stat(w.path("local/stream").c_str(), &about) == 0 && S_ISSOCK(about.st_mode) && (about.st_mode & 0777) == 0712,
      "the socket file's mode is %o", about.st_mode);
  w.check(about.st_uid == file.st_uid && about.st_gid == file.st_gid, "the socket file belongs to %u, group %u",
          about.st_uid, about.st_gid);
  for (std::size_t i = 0; i < std::size(fds); ++i)
    if (!w.beside_criu()) compare_options(w, "a unix socket", options[i], fds[i]);
  for (const int fd : fds)
    w.check(fstat(fd, &about) == 0 && about.st_uid == geteuid(), "a socket belongs to user %u", about.st_uid);
  w.check((fcntl(packets, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(stream, F_GETFL) & O_NONBLOCK) == 0, "flags changed");

  const struct {
    int fd;
    const Name& name;
    const char* what;
  } receivers[] = {{datagrams, datagram_path, "the datagram socket"},
                   {hidden_datagrams, datagram_abstract, "the abstract datagram socket"}};
  for (const auto& receiver : receivers) {
    w.check(receiver.name.is_of(receiver.fd), "%s has another name", receiver.what);
    char got[8];
    w.check(sendto(hidden_datagrams, "datagram", 8, 0, receiver.name.get(), receiver.name.size) == 8 &&
                readable(receiver.fd) && read(receiver.fd, got, 8) == 8,
            "%s: nothing arrives: %m", receiver.what);
  }
  int passes = 0, sent_now = 0;
  size = sizeof passes;
  getsockopt(datagrams, SOL_SOCKET, SO_PASSCRED, &passes, &size);
  getsockopt(datagrams, SOL_SOCKET, SO_SNDBUF, &sent_now, &size);
  w.check(passes == 1 && sent_now == sent_before, "SO_PASSCRED is %d, SO_SNDBUF %d, was %d", passes, sent_now,
          sent_before);
  w.check(connect(unbound, stream_path.get(), stream_path.size) == 0 && fcntl(unbound, F_GETFD) == 0,
          "the unbound socket: %m");
  w.check(room(stream_path, SOCK_STREAM) == 5, "the stream listener's backlog is not 5");  // one has come just now
  w.check(room(packet_path, SOCK_SEQPACKET) == 10, "the seqpacket listener's backlog is not 9");
  return w.finish();
}
