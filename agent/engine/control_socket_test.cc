#include "agent/engine/control_socket.h"

#include "agent/engine/holder/holder.pb.h"
#include "agent/engine/holder/packet.h"
#include "common/base/check.h"

#include <gtest/gtest.h>

#include <sys/socket.h>

namespace godwit::engine {
namespace {

// Both sides speak at once, and one of them ends.
TEST(ControlSocket, hears_what_was_said_last_by_an_agent_that_has_not_read_all) {
  auto [ours, agents] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  ControlSocket control(std::move(ours));
  Event unread;
  unread.set_id(6);
  control.send(unread);
  Command last;
  last.set_id(7);
  const std::string bytes = last.SerializeAsString();
  check(::send(agents.get(), bytes.data(), bytes.size(), 0), "send");
  agents.reset();
  const std::optional<Received> received = control.receive(std::chrono::seconds(1));
  ASSERT_TRUE(received);
  EXPECT_EQ(received->command.id(), 7u);
  EXPECT_THROW(control.receive(std::chrono::seconds(1)), Error);
}

TEST(PacketOfAHolder, is_heard_when_its_sender_has_not_read_all) {
  auto [ours, holders] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  holder::Request request;
  request.add_words("dump");
  holder::send(ours.get(), request);
  holder::Reply last;
  last.mutable_failure()->set_message("too late");
  holder::send(holders.get(), last);
  holders.reset();
  holder::Reply reply;
  holder::receive(ours.get(), reply, std::chrono::seconds(1));
  EXPECT_EQ(reply.failure().message(), "too late");
  EXPECT_THROW(holder::receive(ours.get(), reply, std::chrono::seconds(1)), Error);
}

}  // namespace
}  // namespace godwit::engine
