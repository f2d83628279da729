#include "agent/engine/resources/inet_diag.h"
#include "agent/engine/resources/tcp_remnants.h"
#include "agent/engine/resources/unix_diag.h"

#include <gtest/gtest.h>

#include <string>

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

namespace godwit::engine::resources {
namespace {

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string message(std::uint16_t type, const std::string& body) {
  const nlmsghdr head{.nlmsg_len = static_cast<std::uint32_t>(sizeof(nlmsghdr) + body.size()), .nlmsg_type = type};
  return bytes_of(head) + body;
}

std::string attribute(std::uint16_t type, const std::string& payload) {
  const nlattr head{.nla_len = static_cast<std::uint16_t>(sizeof(nlattr) + payload.size()), .nla_type = type};
  return bytes_of(head) + payload;
}

std::string socket_with(const std::string& attributes) {
  return message(SOCK_DIAG_BY_FAMILY, bytes_of(unix_diag_msg{.udiag_type = SOCK_DGRAM, .udiag_state = 7}) + attributes);
}

// In memory of exactly its size, so that a sanitizer sees one byte too far.
auto parsed(const std::string& answer) {
  const std::vector<char> exact(answer.begin(), answer.end());
  return parse_unix_socket(std::as_bytes(std::span(exact)), "a socket");
}

Errc refused(const std::string& answer) {
  try {
    parsed(answer);
  } catch (const Error& e) {
    return e.errc();
  }
  return {};
}

TEST(Netlink, an_answer_about_a_unix_socket_is_read) {
  const auto info = parsed(socket_with(attribute(UNIX_DIAG_PEER, bytes_of(std::uint32_t{77})) +
                                       attribute(UNIX_DIAG_NAME, std::string("/run/x\0", 7))));
  ASSERT_TRUE(info);
  EXPECT_EQ(info->type, SOCK_DGRAM);
  EXPECT_EQ(info->state, 7);
  EXPECT_EQ(info->peer, 77u);
  EXPECT_EQ(info->name, "/run/x") << "the last attribute is not aligned";
}

TEST(Netlink, a_socket_that_is_not_there_is_nothing) {
  EXPECT_FALSE(parsed(message(NLMSG_ERROR, bytes_of(nlmsgerr{.error = -ENOENT, .msg = {}}))));
  EXPECT_EQ(refused(message(NLMSG_ERROR, bytes_of(nlmsgerr{.error = -EPERM, .msg = {}}))),
            syscall_error(EPERM, "ask").errc());
}

TEST(Netlink, lengths_that_lead_out_of_the_answer_are_refused) {
  const std::string whole = socket_with(attribute(UNIX_DIAG_PEER, bytes_of(std::uint32_t{77})));
  for (std::size_t length = 0; length < whole.size(); length++)
    EXPECT_EQ(refused(whole.substr(0, length)), Errc::internal) << length << " bytes";
  EXPECT_EQ(refused(message(NLMSG_ERROR, "")), Errc::internal);
  EXPECT_EQ(refused(message(SOCK_DIAG_BY_FAMILY, "short")), Errc::internal);
  std::string attribute_too_long = whole;
  attribute_too_long[sizeof(nlmsghdr) + sizeof(unix_diag_msg)] = 60;
  EXPECT_EQ(refused(attribute_too_long), Errc::internal);
  std::string attribute_too_short = whole;
  attribute_too_short[sizeof(nlmsghdr) + sizeof(unix_diag_msg)] = 3;
  EXPECT_EQ(refused(attribute_too_short), Errc::internal);
}

TEST(Netlink, keys_are_those_of_the_socket_that_was_meant) {
  const auto listener = [](std::uint32_t inode, const std::string& attributes) {
    inet_diag_msg m{};
    m.idiag_inode = inode;
    return message(SOCK_DIAG_BY_FAMILY, bytes_of(m) + attributes);
  };
  bool more = true;
  const auto found = [&](const std::string& answer, std::uint32_t inode) {
    more = true;
    return find_md5_keys(std::as_bytes(std::span(answer)), inode, more);
  };
  const std::string some =
      listener(5, attribute(INET_DIAG_CLASS_ID, bytes_of(std::uint32_t{1}))) +
      listener(7, attribute(INET_DIAG_CLASS_ID, bytes_of(std::uint32_t{1})) + attribute(INET_DIAG_MD5SIG, "key."));
  EXPECT_EQ(found(some, 7), true);
  EXPECT_EQ(found(some, 5), false);
  EXPECT_EQ(found(some, 6), std::nullopt);
  EXPECT_TRUE(more);
  EXPECT_EQ(found(message(NLMSG_DONE, bytes_of(0)) + some, 7), std::nullopt);
  EXPECT_FALSE(more);
}

TEST(Netlink, only_connections_that_nobody_holds_are_remnants) {
  const auto connection = [](std::uint16_t port, std::uint32_t inode) {
    inet_diag_msg m{};
    m.id.idiag_sport = htons(port);
    m.idiag_inode = inode;
    return message(SOCK_DIAG_BY_FAMILY, bytes_of(m));
  };
  std::vector<inet_diag_sockid> found;
  const std::string some = connection(80, 0) + connection(80, 5) + connection(81, 0) + connection(80, 0);
  EXPECT_TRUE(collect_remnants(std::as_bytes(std::span(some)), 80, found));
  EXPECT_EQ(found.size(), 2u);
  const std::string last = connection(80, 0) + message(NLMSG_DONE, bytes_of(0)) + connection(80, 0);
  EXPECT_FALSE(collect_remnants(std::as_bytes(std::span(last)), 80, found));
  EXPECT_EQ(found.size(), 3u);
}

}  // namespace
}  // namespace godwit::engine::resources
