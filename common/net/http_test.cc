#include "common/net/http.h"
#include "common/net/test_loop.h"
#include "tests/support/test_certs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::net {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

awaitable<void> count(std::shared_ptr<HttpStream> stream) {
  for (int i = 1; i <= 3; ++i) {
    co_await stream->write("{\"n\":");
    co_await sleep_for(5ms);
    co_await stream->write(std::to_string(i) + "}\n");
  }
}

awaitable<HttpResponse> handle(HttpRequest request) {
  if (request.target == "/stream")
    co_return HttpResponse{.content_type = "application/jsonl", .body = "{}\n", .stream = count};
  if (request.target == "/broken") throw Error(Errc::not_found, "no workload \"x\"", "see `godwit ps`");
  co_return HttpResponse{.body = request.method + " " + request.body + " from " + to_string(request.peer)};
}

class HttpTest : public testing::Test {
 protected:
  test::TestCerts certs;
  asio::io_context io{1};
  TlsContext tls = TlsContext::load(certs.node("spiffe://godwit/operator/ann"));
  HttpServer server{
      io.get_executor(), {"127.0.0.1", "0"}, TlsContext::load(certs.node("spiffe://godwit/coordinator")), handle};
  Address address = parse_address(to_string(server.endpoint()));
  HttpResponse response;
  std::vector<std::string> lines;

  awaitable<void> ask(HttpRequest request) { response = co_await http_request(address, tls, std::move(request), 5s); }
  awaitable<void> ask_lines(HttpRequest request) {
    auto keep = [this](std::string_view line) { lines.emplace_back(line); };
    response = co_await http_request(address, tls, std::move(request), 5s, std::move(keep));
  }
};

TEST_F(HttpTest, answers_and_knows_who_asks) {
  run_to_end(io, ask({.method = "POST", .target = "/x", .body = "hello"}));
  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(response.body, "POST hello from operator/ann");
}

TEST_F(HttpTest, carries_a_body_of_a_mebibyte_but_not_more) {
  run_to_end(io, ask({.method = "POST", .target = "/x", .body = std::string(1 << 20, 'x')}));
  EXPECT_EQ(response.body.size(), (1u << 20) + std::string("POST  from operator/ann").size());
  run_to_end(io, ask({.method = "POST", .target = "/x", .body = std::string((1 << 20) + 1, 'x')}));
  EXPECT_EQ(response.status, 400u);
  EXPECT_THAT(response.body, HasSubstr("body limit exceeded"));
}

TEST_F(HttpTest, turns_an_error_into_a_status_and_json) {
  run_to_end(io, ask({.target = "/broken"}));
  EXPECT_EQ(response.status, 404u);
  EXPECT_THAT(response.body, HasSubstr("\"code\":\"not_found\""));
  EXPECT_THAT(response.body, HasSubstr("no workload \\\"x\\\""));
}

TEST_F(HttpTest, streams_lines_as_they_come) {
  run_to_end(io, ask_lines({.target = "/stream"}));
  EXPECT_EQ(response.status, 200u);
  EXPECT_THAT(lines, ElementsAre("{}", "{\"n\":1}", "{\"n\":2}", "{\"n\":3}"));
}

TEST_F(HttpTest, collects_a_stream_when_nobody_wants_lines) {
  run_to_end(io, ask({.target = "/stream"}));
  EXPECT_EQ(response.body, "{}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
}

}  // namespace
}  // namespace godwit::net
