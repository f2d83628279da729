#include "agent/service/trackers.h"

#include "agent/engine/holder/holder.pb.h"
#include "agent/workload/process.h"
#include "common/base/log.h"
#include "common/net/packet_socket.h"
#include "common/net/within.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <filesystem>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace godwit::service {
namespace {

namespace asio = boost::asio;

constexpr auto patience = std::chrono::seconds(5);  // with a command that has connected

UniqueFd listen_at(const std::string& path) {
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  std::filesystem::create_directories(directory);
  check(::chmod(directory.c_str(), 0700), "keep {} to root", directory.string());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail(Errc::invalid_argument, "{} is too long for a socket", path);
  path.copy(address.sun_path, path.size());
  ::unlink(path.c_str());
  UniqueFd socket(check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "make a socket"));
  check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind {}", path);
  check(::listen(socket.get(), 8), "listen at {}", path);
  return socket;
}

bool is_root(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

net::awaitable<void> watch(UniqueFd pidfd, pid_t target) {
  const std::string how = co_await workload::process_ended(std::move(pidfd));
  log::info("tracker.ended", {{"target", target}, {"how", how}});
}

}  // namespace

Trackers::Trackers(const Context& context, std::string path)
    : context_(context), path_(std::move(path)), listener_(context.executor, listen_at(path_).release()) {}

Trackers::~Trackers() { ::unlink(path_.c_str()); }

void Trackers::close() { listener_.close(); }

net::awaitable<void> Trackers::serve() {
  for (;;) {
    const auto [ec] =
        co_await listener_.async_wait(asio::posix::stream_descriptor::wait_read, asio::as_tuple(asio::use_awaitable));
    if (ec || !listener_.is_open()) co_return;
    UniqueFd socket(::accept4(listener_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket && is_root(socket.get())) net::spawn(context_.executor, "tracker.request", answer(std::move(socket)));
  }
}

net::awaitable<void> Trackers::answer(UniqueFd fd) {
  net::PacketSocket socket(context_.executor, std::move(fd));
  auto receive = socket.receive();
  const std::optional<net::Packet> packet = co_await net::within(patience, std::move(receive));
  engine::holder::Keep keep;
  if (!packet || packet->fds.size() != 1 || !keep.ParseFromString(packet->bytes)) co_return;
  engine::holder::Reply reply;
  try {
    start_holder(keep.pid(), packet->fds[0]);
    reply.set_done(true);
  } catch (const Error& e) {
    reply.mutable_failure()->set_code(std::string(name(e.errc())));
    reply.mutable_failure()->set_message(e.message());
  }
  net::Packet back{.bytes = reply.SerializeAsString(), .fds = {}};
  auto send = socket.send(std::move(back));
  co_await net::within(patience, std::move(send));
}

void Trackers::start_holder(pid_t pid, const UniqueFd& listener) {
  const workload::Cgroup group = workload::Cgroup::create(context_.cgroup("trackers"));
  workload::Child child = workload::spawn({.program = context_.program("godwit-engine"),
                                           .arguments = {"holder", "-t", std::to_string(pid), "--control-fd", "3"},
                                           .environment = workload::own_environment(),
                                           .fds = {listener.get()},
                                           .cgroup = group.dir()});
  log::info("tracker.started", {{"target", pid}, {"holder", child.pid}});
  net::spawn(context_.executor, "tracker.watch", watch(std::move(child.pidfd), pid));
}

}  // namespace godwit::service
