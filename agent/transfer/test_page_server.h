// For tests and benchmarks: a real page server as a child process, and the agent's end of its control socket.
#pragma once

#include "common/base/fd.h"
#include "common/net/packet_socket.h"
#include "pageserver/control.pb.h"

#include <openssl/sha.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace godwit::transfer {

class TestPageServer {
 public:
  static constexpr std::uint32_t max_streams = 4;  // of a session

  TestPageServer(net::Executor executor, const std::string& program, const std::string& certs) {
    auto [mine, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
    std::string fd = std::to_string(theirs.get());
    check(::fcntl(theirs.get(), F_SETFD, 0), "hand over the control socket");
    const char* arguments[] = {program.c_str(), "--control-fd", fd.c_str(), "--listen", "127.0.0.1:0",
                               "--certs",       certs.c_str(),  "--user",   "nobody",   nullptr};
    const int failed = ::posix_spawn(&pid_, program.c_str(), nullptr, nullptr, const_cast<char**>(arguments), environ);
    if (failed != 0) throw syscall_error(failed, "start " + program);
    control = std::make_shared<net::PacketSocket>(executor, std::move(mine));
  }
  ~TestPageServer() {
    control.reset();
    kill();
  }
  TestPageServer(const TestPageServer&) = delete;
  TestPageServer& operator=(const TestPageServer&) = delete;

  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  // True when it has ended by itself, with status 0.
  bool ended_well(Clock::duration limit = std::chrono::seconds(5)) {
    for (const auto deadline = Clock::now() + limit; Clock::now() < deadline; ::usleep(2000)) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) != pid_) continue;
      pid_ = -1;
      return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    return false;
  }
  pid_t pid() const { return pid_; }

  net::awaitable<void> open(std::string migration, std::string token, std::string peer, std::uint64_t limit,
                            UniqueFd spool) {
    pageserver::ToServer m;
    auto& o = *m.mutable_open();
    o.set_migration(migration);
    std::string digest(SHA256_DIGEST_LENGTH, '\0');
    ::SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
             reinterpret_cast<unsigned char*>(digest.data()));
    o.set_token_sha256(digest);
    o.set_spool_limit(limit);
    o.set_peer(peer);
    o.set_max_streams(max_streams);
    net::Packet packet{.bytes = m.SerializeAsString(), .fds = {}};
    packet.fds.push_back(std::move(spool));
    co_await control->send(std::move(packet));
  }
  net::awaitable<void> say(pageserver::ToServer m) {
    net::Packet packet{.bytes = m.SerializeAsString(), .fds = {}};
    co_await control->send(std::move(packet));
  }
  net::awaitable<std::optional<pageserver::FromServer>> hear() {
    const auto packet = co_await control->receive();
    if (!packet) co_return std::nullopt;
    pageserver::FromServer m;
    m.ParseFromString(packet->bytes);
    co_return m;
  }

  std::shared_ptr<net::PacketSocket> control;

 private:
  pid_t pid_ = -1;
};

}  // namespace godwit::transfer
