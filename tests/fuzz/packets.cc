// Packets on the sockets between programs of one node. The first byte says who receives it: a command from its
// tracker's holder, the engine from its agent, the page server from its agent, the agent from each of them.
#include "agent/engine/control_socket.h"
#include "agent/engine/holder/holder.pb.h"
#include "agent/engine/holder/packet.h"
#include "agent/jobs/server_words.h"
#include "common/net/address.h"
#include "common/pagewire/wire.h"
#include "pageserver/control.pb.h"
#include "tests/fuzz/fuzz.h"

#include <sys/socket.h>

namespace godwit {
namespace {

// What was read is written again and read back the same.
template <class M>
void again(const M& message) {
  M copy;
  const std::string bytes = message.SerializeAsString();
  require(copy.ParseFromString(bytes) && copy.SerializeAsString() == bytes);
}

template <class M>
void from_holder(int socket) {
  M message;
  require(engine::holder::receive(socket, message).empty());
  again(message);
}

template <class M>
void from_bytes(std::string_view bytes) {
  M message;
  if (message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) again(message);
}

void from_page_server(std::string_view bytes) {
  const pageserver::FromServer message = jobs::parse_server_words(std::string(bytes));
  again(message);
  if (message.has_stored()) require(message.stored().stream() < pagewire::max_streams);
  if (message.has_listening()) net::parse_address(message.listening().address());
}

void receive(char who, UniqueFd socket) {
  switch (who) {
    case 'h': return from_holder<engine::holder::Hello>(socket.get());
    case 'q': return from_holder<engine::holder::Request>(socket.get());
    case 'r': return from_holder<engine::holder::Reply>(socket.get());
    case 's': return from_holder<engine::holder::StepDone>(socket.get());
    case 'e': {
      engine::ControlSocket control(std::move(socket));
      const auto received = control.receive(std::chrono::milliseconds(0));
      require(received && received->fds.empty());
      again(received->command);
      break;
    }
    default: break;
  }
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.size() < 2) return;
  const std::string_view packet = input.substr(1);
  switch (input[0]) {
    case 'p': return from_bytes<pageserver::ToServer>(packet);
    case 'f': return from_page_server(packet);
    case 'v': return from_bytes<engine::Event>(packet);
    case 'k': return from_bytes<engine::holder::Keep>(packet);
    default: break;
  }
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  check(::send(ours.get(), packet.data(), packet.size(), 0), "send a packet");
  receive(input[0], std::move(theirs));
}

}  // namespace godwit
