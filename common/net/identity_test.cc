#include "common/net/address.h"
#include "common/net/identity.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

namespace godwit::net {

TEST(Identity, is_role_and_name_of_a_spiffe_uri) {
  EXPECT_EQ(parse_identity("spiffe://godwit/agent/node-a"), (Identity{"agent", "node-a"}));
  EXPECT_EQ(parse_identity("spiffe://godwit/coordinator"), (Identity{"coordinator", ""}));
  EXPECT_EQ(parse_identity("spiffe://godwit/operator/ann"), (Identity{"operator", "ann"}));
}

TEST(Identity, refuses_names_that_could_be_paths_or_escape_sequences) {
  for (const char* uri : {"", "spiffe://godwit/", "spiffe://godwit/agent", "spiffe://godwit/agent/",
                          "spiffe://godwit/king/a", "spiffe://godwit/agent/..", "spiffe://godwit/agent/a/b",
                          "spiffe://godwit/agent/a b", "spiffe://godwit/agent/\x1b[2J", "spiffe://other/agent/a"})
    EXPECT_FALSE(parse_identity(uri)) << uri;
}

TEST(Identity, is_required_by_role_and_name) {
  const Identity peer{"agent", "a"};
  EXPECT_NO_THROW(require(peer, "agent"));
  EXPECT_NO_THROW(require(peer, "agent", "a"));
  EXPECT_THROW(require(peer, "agent", "b"), Error);
  EXPECT_THROW(require(peer, "coordinator"), Error);
}

TEST(Address, is_host_and_port) {
  EXPECT_EQ(to_string(parse_address("10.0.0.1:7440")), "10.0.0.1:7440");
  EXPECT_EQ(parse_address("[::1]:80").host, "::1");
  EXPECT_EQ(to_string(parse_address("[::1]:80")), "[::1]:80");
  for (const char* text : {"", "host", "host:", ":80", "::1:80", "host:port", "host:99999", "host:123456", "[[::1]]:80", "a]:80"})
    EXPECT_THROW(parse_address(text), Error) << text;
}

}  // namespace godwit::net
