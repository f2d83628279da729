#include "common/base/passed_fds.h"

#include "common/base/check.h"

#include <gtest/gtest.h>

#include <string>

#include <sys/socket.h>

namespace godwit {
namespace {

void say(const UniqueFd& socket, std::string text, std::span<const int> fds = {}) {
  iovec part{text.data(), text.size()};
  msghdr message{.msg_iov = &part, .msg_iovlen = 1};
  PassedFds passed;
  passed.attach(message, fds);
  check(::sendmsg(socket.get(), &message, MSG_NOSIGNAL), "send");
}

class PassedFdsTest : public ::testing::TestWithParam<int> {
 protected:
  std::string hear() {
    std::string text(100, '\0');
    iovec part{text.data(), text.size()};
    msghdr message{.msg_iov = &part, .msg_iovlen = 1};
    PassedFds passed;
    text.resize(static_cast<std::size_t>(check(passed.receive(near.get(), message), "receive")));
    fds = PassedFds::take(message);
    return text;
  }

  std::pair<UniqueFd, UniqueFd> pair = make_socketpair(AF_UNIX, GetParam());
  UniqueFd &near = pair.first, &far = pair.second;
  std::vector<UniqueFd> fds;
};

TEST_P(PassedFdsTest, ride_along_with_their_message) {
  say(far, "one", std::array{0, 1});
  EXPECT_EQ(hear(), "one");
  EXPECT_EQ(fds.size(), 2u);
}

TEST_P(PassedFdsTest, arrive_with_what_was_said_last_by_who_ended_without_having_read_all) {
  say(near, "what now?");
  say(far, "nothing", std::array{0});
  far.reset();
  EXPECT_EQ(hear(), "nothing");
  EXPECT_EQ(fds.size(), 1u);
  EXPECT_EQ(hear(), "");
}

INSTANTIATE_TEST_SUITE_P(OnSockets, PassedFdsTest, ::testing::Values(SOCK_STREAM, SOCK_SEQPACKET),
                         [](const auto& info) { return info.param == SOCK_STREAM ? "stream" : "seqpacket"; });

}  // namespace
}  // namespace godwit
