// Where a node has an agent, it starts the holders of trackers (agent/engine/holder) that dumps by hand ask for: they
// then live with the node's service, not with whatever session typed the command.
//
// A socket for root only; a command hands over the socket that the holder is to listen on. Holders outlive the agent.
#pragma once

#include "agent/service/context.h"

#include <boost/asio/posix/stream_descriptor.hpp>

#include <string>

namespace godwit::service {

class Trackers {
 public:
  // Listens at `path`; what an earlier life left there is replaced.
  Trackers(const Context& context, std::string path);
  ~Trackers();
  Trackers(const Trackers&) = delete;
  Trackers& operator=(const Trackers&) = delete;

  net::awaitable<void> serve();  // until close()
  void close();

 private:
  net::awaitable<void> answer(UniqueFd socket);
  void start_holder(pid_t pid, const UniqueFd& listener);

  const Context& context_;
  std::string path_;
  boost::asio::posix::stream_descriptor listener_;
};

}  // namespace godwit::service
