// What dials in where agents do and is none, or none of this release: it is told so in a stable way, and those that are
// there notice nothing.
#include "coordinator/testing/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using namespace std::chrono_literals;
using net::awaitable;
using testing::HasSubstr;
using testing::StartsWith;

awaitable<void> ask_as(net::TlsContext tls, net::Address address, api::Envelope request, api::Envelope* answer) {
  net::Connection connection = co_await net::connect(std::move(address), std::move(tls), 5s);
  const auto channel = net::Channel::start(std::move(connection), {});
  *answer = co_await channel->ask(std::move(request), 5s);
  channel->close();
}

// What is answered until the other side hangs up.
awaitable<void> say_as(net::TlsContext tls, net::Address address, std::string bytes, std::string* answer) {
  net::Connection connection = co_await net::connect(std::move(address), std::move(tls), 5s);
  co_await connection.write(bytes);
  std::vector<std::byte> part(4096);
  try {
    while (const std::size_t n = co_await connection.read_some(part))
      answer->append(reinterpret_cast<const char*>(part.data()), n);
  } catch (const Error&) {
  }
}

class DialIn : public testing::Test {
 protected:
  Cluster c;

  std::string told(const std::string& who, api::Envelope request) {
    try {
      api::Envelope answer;
      net::run_to_end(c.io, ask_as(tls_of(who), c.daemon.agents_address(), std::move(request), &answer));
      return "answered";
    } catch (const Error& e) {
      return fmt::format("{}: {} ({})", name(e.errc()), e.message(), e.hint());
    }
  }
  std::string answer_to(const net::Address& address, const std::string& who, std::string bytes) {
    std::string answer;
    net::run_to_end(c.io, say_as(tls_of(who), address, std::move(bytes), &answer));
    return answer;
  }
  api::Envelope registration(const std::string& node, std::uint32_t version = control_version) {
    api::Envelope request;
    request.mutable_register_()->set_node(node);
    request.mutable_register_()->set_version(version);
    return request;
  }
  void expect_nothing_changed() {
    EXPECT_TRUE(c.a.registered() && c.b.registered());
    EXPECT_EQ(c.daemon.registry.nodes().size(), 2u);
    EXPECT_EQ(c.migrate().outcome, Outcome::done);
  }
};

TEST_F(DialIn, of_another_version_is_told_which_is_spoken_here) {
  for (const std::uint32_t version : {0u, control_version + 1})
    EXPECT_THAT(told("agent/z", registration("z", version)),
                AllOf(StartsWith("protocol: the agent speaks version"), HasSubstr("(run the same release of godwit")));
  EXPECT_THAT(told("agent/a", registration("a", control_version + 1)), StartsWith("protocol: "));
  expect_nothing_changed();
}

TEST_F(DialIn, under_the_name_of_another_node_is_denied) {
  EXPECT_THAT(told("agent/z", registration("a")),
              AllOf(StartsWith("denied: agent/z may not register as node 'a'"),
                    HasSubstr("(its certificate must carry spiffe://godwit/agent/a)")));
  expect_nothing_changed();
}

TEST_F(DialIn, with_another_role_is_hung_up_on) {
  for (const char* who : {"operator/a", "coordinator"})
    EXPECT_THAT(told(who, registration("a")), StartsWith("peer_lost")) << who;
  expect_nothing_changed();
}

TEST_F(DialIn, gets_nothing_but_a_registration_answered) {
  api::Envelope request;
  request.mutable_kill_workload()->set_name("redis");
  EXPECT_THAT(told("agent/b", request), StartsWith("unsupported: the coordinator answers Register and Relay only"));
  expect_nothing_changed();
}

TEST_F(DialIn, with_bytes_that_are_no_message_is_hung_up_on) {
  const std::string huge("\xff\xff\xff\x7f", 4), nothing("\0\0\0\0", 4), nonsense("\x04\0\0\0\xff\xff\xff\xff", 8);
  for (const std::string& bytes : {huge, nothing, nonsense, std::string("GET / HTTP/1.1\r\n\r\n")})
    EXPECT_EQ(answer_to(c.daemon.agents_address(), "agent/a", bytes), "");
  expect_nothing_changed();
}

TEST_F(DialIn, cannot_claim_the_progress_of_a_migration_between_others) {
  c.a.always[api::Envelope::kRound] = Fault::hang_before;
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return !c.a.asked.empty() && c.a.asked.back() == api::Envelope::kRound; });
  api::Progress progress;
  progress.mutable_id()->set_migration(id);
  progress.set_bytes(1);
  const auto run = c.daemon.driver.find(id);
  c.daemon.driver.progress("z", progress);
  EXPECT_EQ(run->progress_version(), 0u);
  c.daemon.driver.progress("a", progress);
  EXPECT_EQ(run->progress_version(), 1u);
  progress.clear_bytes();
  c.daemon.driver.progress("b", progress);  // a sign of life
  EXPECT_EQ(run->latest_progress().value("bytes", 0), 1);
  c.daemon.driver.cancel(id, "ann");
  c.finish(id);
}

TEST_F(DialIn, over_http_with_what_is_no_request_is_told_so) {
  for (const std::string& bytes :
       {std::string("what is this\r\n\r\n"), "GET /v1/nodes HTTP/1.1\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n",
        std::string("POST /v1/migrations HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")}) {
    const std::string answer = answer_to(c.daemon.api_address(), "operator/ann", bytes);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400")) << bytes.substr(0, 40);
    EXPECT_THAT(answer, HasSubstr(R"("code":"protocol")")) << bytes.substr(0, 40);
  }
  expect_nothing_changed();
}

TEST_F(DialIn, over_http_needs_a_certificate_of_an_operator) {
  for (const char* who : {"agent/a", "agent/ann"}) {
    const net::HttpResponse r = c.request({.method = "POST", .target = "/v1/nodes/b/cordon"}, who);
    EXPECT_EQ(r.status, 403u);
    const nlohmann::json body = nlohmann::json::parse(r.body);
    EXPECT_EQ(body["code"], "denied");
    EXPECT_THAT(body["hint"].get<std::string>(), HasSubstr("spiffe://godwit/operator/NAME"));
  }
  expect_nothing_changed();
}

}  // namespace
}  // namespace godwit::coordinator
