#include "pageserver/criu/tls_stream.h"

#include "common/base/fd.h"
#include "tests/support/test_certs.h"

#include <gtest/gtest.h>

#include <future>

#include <sys/socket.h>

namespace godwit::pageserver::criu {
namespace {

using namespace std::chrono_literals;

TlsFiles files_in(const std::string& directory) {
  return {.ca = directory + "/ca.crt",
          .revoked = {},
          .certificate = directory + "/node.crt",
          .key = directory + "/node.key"};
}

struct Outcome {
  std::optional<Errc> server, client;
};

// Both ends shake hands and exchange a few bytes.
Outcome meet(const TlsSettings& server, const TlsSettings& client) {
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
  for (const UniqueFd* fd : {&ours, &theirs}) net::adopt_stream(fd->get());
  const auto speak = [](UniqueFd socket, const TlsSettings& settings, TlsSide side) -> std::optional<Errc> {
    try {
      TlsStream stream(std::move(socket), settings, side, net::in(5s));
      std::byte answer{};
      if (side == TlsSide::client) stream.send(std::as_bytes(std::span("?", 1)), net::in(5s));
      if (stream.receive(std::span(&answer, 1), net::in(5s)) != 1) return Errc::peer_lost;
      if (side == TlsSide::server) stream.send(std::as_bytes(std::span("!", 1)), net::in(5s));
      stream.part(net::in(5s));
      return std::nullopt;
    } catch (const Error& e) {
      return e.errc();
    }
  };
  auto other = std::async(std::launch::async, [&, socket = std::move(theirs)]() mutable {
    return speak(std::move(socket), server, TlsSide::server);
  });
  Outcome outcome;
  outcome.client = speak(std::move(ours), client, TlsSide::client);
  outcome.server = other.get();
  return outcome;
}

TEST(PageTls, both_sides_compare_the_name) {
  test::TestCerts certs;
  const std::string a = certs.node("spiffe://godwit/agent/a", "IP:127.0.0.1,DNS:pages.example");
  const std::string b = certs.node("spiffe://godwit/agent/b");
  const TlsSettings named(files_in(a), "127.0.0.1"), other_name(files_in(a), "pages.example");
  EXPECT_EQ(meet(named, other_name).server, std::nullopt);
  EXPECT_EQ(meet(named, other_name).client, std::nullopt);

  const TlsSettings nameless(files_in(b), ""), wrong(files_in(a), "127.0.0.2");
  EXPECT_EQ(meet(named, nameless).server, Errc::denied) << "the client's certificate has no name";
  EXPECT_EQ(meet(nameless, named).client, Errc::denied);
  EXPECT_EQ(meet(nameless, wrong).client, Errc::denied);
  EXPECT_EQ(meet(nameless, TlsSettings(files_in(b), "")).client, std::nullopt) << "nobody asks for names";
}

TEST(PageTls, another_authority_is_not_accepted) {
  test::TestCerts certs, others;
  const TlsSettings ours(files_in(certs.node("spiffe://godwit/agent/a")), "");
  const TlsSettings theirs(files_in(others.node("spiffe://godwit/agent/a")), "");
  EXPECT_EQ(meet(ours, theirs).client, Errc::denied);
  EXPECT_NE(meet(ours, theirs).server, std::nullopt);
}

TEST(PageTls, either_side_turns_away_what_is_revoked) {
  test::TestCerts certs;
  const std::string a = certs.node("spiffe://godwit/agent/a"), b = certs.node("spiffe://godwit/agent/b");
  const auto with_list = [](const std::string& directory, const std::string& list) {
    TlsFiles files = files_in(directory);
    files.revoked = list;
    return files;
  };
  const TlsSettings plain_a(files_in(a), ""), plain_b(files_in(b), "");
  {
    const TlsSettings nobody(with_list(a, certs.revoked(a, false)), "");
    EXPECT_EQ(meet(nobody, plain_b).server, std::nullopt);
    EXPECT_EQ(meet(plain_b, nobody).client, std::nullopt);
  }
  const TlsSettings not_b(with_list(a, certs.revoked(b, true)), "");
  EXPECT_EQ(meet(not_b, plain_b).server, Errc::denied) << "the client's is revoked";
  EXPECT_EQ(meet(plain_b, not_b).client, Errc::denied) << "the server's is revoked";
  EXPECT_EQ(meet(not_b, plain_a).server, std::nullopt) << "others are not";

  test::TestCerts others;
  const TlsSettings of_another(with_list(a, others.revoked(others.node("spiffe://godwit/agent/a"), false)), "");
  EXPECT_EQ(meet(of_another, plain_b).server, Errc::denied) << "the list says nothing of this authority";
  EXPECT_THROW(TlsSettings(with_list(a, "/nowhere/list.pem"), ""), Error);
  EXPECT_THROW(TlsSettings(with_list(a, a + "/node.crt"), ""), Error) << "that is no list";
}

TEST(PageTls, a_file_that_is_missing_is_named) {
  test::TestCerts certs;
  TlsFiles files = files_in(certs.node("spiffe://godwit/agent/a"));
  files.key = "/nowhere/key.pem";
  try {
    TlsSettings settings(files, "");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    EXPECT_NE(e.message().find("/nowhere/key.pem"), std::string::npos) << e.message();
  }
}

}  // namespace
}  // namespace godwit::pageserver::criu
