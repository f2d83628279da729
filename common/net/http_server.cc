#include "common/net/http.h"

#include "common/base/log.h"
#include "common/net/within.h"

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <nlohmann/json.hpp>

namespace godwit::net {
namespace {

namespace http = boost::beast::http;

constexpr std::uint32_t max_header = 16 * 1024;
constexpr std::uint64_t max_body = 1024 * 1024;
constexpr auto between_requests = std::chrono::seconds(60);
constexpr auto write_limit = std::chrono::seconds(30);
constexpr auto refusal_limit = std::chrono::seconds(2);

std::shared_ptr<Connection> share(Connection c) { return std::make_shared<Connection>(std::move(c)); }
using Shared = std::shared_ptr<Connection>;

std::string head(const HttpResponse& r, bool keep_alive) {
  const std::string_view reason = http::obsolete_reason(static_cast<http::status>(r.status));
  std::string out = fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nCache-Control: no-store\r\n", r.status,
                                std::string_view(reason.data(), reason.size()), r.content_type);
  if (r.stream)
    out += "Transfer-Encoding: chunked\r\n";
  else
    out += fmt::format("Content-Length: {}\r\n", r.body.size());
  out += keep_alive ? "\r\n" : "Connection: close\r\n\r\n";
  return out;
}

std::string chunk(std::string_view text) { return fmt::format("{:x}\r\n{}\r\n", text.size(), text); }

awaitable<void> write_bounded(Shared c, std::string text) {
  awaitable<void> writing = c->write(text);
  co_await within(write_limit, "write the answer", std::move(writing));
}

class Chunks : public HttpStream {
 public:
  explicit Chunks(Shared c) : connection_(std::move(c)) {}
  awaitable<void> write(std::string text) override {
    // An empty chunk would end the stream.
    return write_bounded(connection_, text.empty() ? std::string() : chunk(text));
  }

 private:
  Shared connection_;
};

HttpResponse failure(const Error& e) {
  const nlohmann::json body{{"code", name(e.errc())}, {"message", e.message()}, {"hint", e.hint()}};
  const auto replace = nlohmann::json::error_handler_t::replace;  // a message may quote anything
  return {.status = status_of(e.errc()), .body = body.dump(-1, ' ', false, replace) + "\n"};
}

awaitable<HttpResponse> ask_handler(HttpHandler handler, HttpRequest request) {
  std::exception_ptr problem;
  try {
    co_return co_await handler(std::move(request));
  } catch (...) {
    problem = std::current_exception();
  }
  co_return failure(to_error(problem));
}

// Nothing: the client has closed the connection between two requests.
awaitable<std::optional<http::request<http::string_body>>> read_request(
    Shared c, std::shared_ptr<boost::beast::flat_buffer> buffer) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(max_header);
  parser.body_limit(max_body);
  parser.eager(true);
  while (!parser.is_done()) {
    boost::system::error_code ec;
    if (buffer->size() > 0) {
      buffer->consume(parser.put(buffer->data(), ec));
      if (ec && ec != http::error::need_more) fail(Errc::protocol, "bad HTTP request: {}", ec.message());
      if (parser.is_done()) break;
    }
    const auto space = buffer->prepare(16 * 1024);
    const std::size_t n = co_await c->read_some(std::span(static_cast<std::byte*>(space.data()), space.size()));
    if (n == 0) {
      if (!parser.got_some()) co_return std::nullopt;
      fail(Errc::peer_lost, "the client left in the middle of a request");
    }
    buffer->commit(n);
  }
  co_return parser.release();
}

awaitable<void> send(Shared c, HttpResponse response, bool keep_alive) {
  if (!response.stream) {
    co_await write_bounded(c, head(response, keep_alive) + response.body);
    co_return;
  }
  std::string first = head(response, keep_alive);
  if (!response.body.empty()) first += chunk(response.body);
  co_await write_bounded(c, std::move(first));
  auto stream = std::make_shared<Chunks>(c);
  co_await response.stream(stream);
  co_await write_bounded(c, "0\r\n\r\n");
}

// Says what was wrong with a request. Closing with bytes unread would reset the connection before that is read.
awaitable<void> refuse(Shared c, Error error) {
  co_await send(c, failure(error), false);
  co_await c->shutdown();
  std::vector<std::byte> discarded(64 * 1024);
  while (co_await c->read_some(discarded) > 0) {
  }
}

// The next request; nothing when the client has left, or has been told that what it sent is none.
awaitable<std::optional<http::request<http::string_body>>> next_request(
    Shared c, std::shared_ptr<boost::beast::flat_buffer> buffer) {
  std::optional<Error> problem;
  try {
    auto reading = read_request(c, buffer);
    co_return co_await within(between_requests, "wait for a request", std::move(reading));
  } catch (const Error& e) {
    if (e.errc() != Errc::protocol) throw;
    problem = e;
  }
  awaitable<void> refusing = refuse(c, *problem);
  co_await within(refusal_limit, "refuse a request", std::move(refusing));
  co_return std::nullopt;
}

// One request after the other; a streaming handler learns from its next write that the client has left.
awaitable<void> serve(HttpHandler handler, Connection connection) {
  const Shared c = share(std::move(connection));
  const auto buffer = std::make_shared<boost::beast::flat_buffer>(64 * 1024);
  for (bool keep_alive = true; keep_alive;) {
    auto parsed = co_await next_request(c, buffer);
    if (!parsed) break;
    keep_alive = parsed->keep_alive();
    const auto text = [](auto view) { return std::string(view.data(), view.size()); };
    HttpRequest request{.method = text(parsed->method_string()),
                        .target = text(parsed->target()),
                        .body = std::move(parsed->body()),
                        .content_type = text((*parsed)[http::field::content_type]),
                        .accept = text((*parsed)[http::field::accept]),
                        .peer = c->peer()};
    HttpResponse response = co_await ask_handler(handler, std::move(request));
    co_await send(c, std::move(response), keep_alive);
  }
  co_await c->shutdown();
}

// Clients that stay idle, leave or talk nonsense are everyday business.
awaitable<void> serve_quietly(HttpHandler handler, Connection connection) {
  const std::string who = connection.address();
  try {
    co_await serve(std::move(handler), std::move(connection));
  } catch (...) {
    const Error e = to_error(std::current_exception());
    log::debug("http.connection_ended", {{"peer", who}, {"code", name(e.errc())}, {"message", e.message()}});
  }
}

}  // namespace

unsigned status_of(Errc code) {
  switch (code) {
    case Errc::invalid_argument:
    case Errc::protocol: return 400;
    case Errc::denied: return 403;
    case Errc::not_found:
    case Errc::target_gone: return 404;
    case Errc::already_exists:
    case Errc::busy: return 409;
    case Errc::unsupported:
    case Errc::refused: return 422;
    case Errc::no_space: return 507;
    case Errc::peer_lost: return 502;
    case Errc::timed_out: return 504;
    case Errc::kernel_missing:
    case Errc::image_corrupt:
    case Errc::cancelled:
    case Errc::internal: return 500;
  }
  return 500;
}

HttpServer::HttpServer(Executor executor, const Address& address, TlsContext tls, HttpHandler handler)
    : listener_(std::move(executor), "http", address, std::move(tls)) {
  listener_.start([handler = std::move(handler)](Connection c) { return serve_quietly(handler, std::move(c)); });
}

}  // namespace godwit::net
