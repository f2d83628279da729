// The page server: sessions opened by the agent, streams opened by its peers.
//
// One main thread for the control socket, handshakes and hellos; streams run on the workers.
#pragma once

#include "common/net/listener.h"
#include "common/net/packet_socket.h"
#include "pageserver/control.pb.h"
#include "pageserver/outbox.h"
#include "pageserver/session/session.h"

#include <map>
#include <memory>
#include <string>

namespace godwit::pageserver {

class Server {
 public:
  Server(net::Executor executor, Workers& workers, UniqueFd control, net::Listener& listener);

  // Serves until the agent closes the control socket.
  net::awaitable<void> run();

 private:
  void handle(ToServer message, std::vector<UniqueFd> fds);
  void open(const Open& message, std::vector<UniqueFd> fds);
  void refuse(const std::string& migration, const Error& error);
  net::awaitable<void> greet(net::Connection connection);

  net::Executor executor_;
  Workers& workers_;
  net::PacketSocket control_;
  net::Listener& listener_;
  Outbox outbox_;
  std::map<std::string, std::shared_ptr<Session>> sessions_;
};

}  // namespace godwit::pageserver
