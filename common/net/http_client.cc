#include "common/net/http.h"
#include "common/net/within.h"

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <array>

namespace godwit::net {
namespace {

namespace http = boost::beast::http;

constexpr std::uint64_t max_reply = 64u << 20;
constexpr std::size_t max_line = 1u << 20;

// Hands out whole lines from where it stopped; without a callback it leaves the body alone.
class Lines {
 public:
  explicit Lines(std::function<void(std::string_view)> on_line) : on_line_(std::move(on_line)) {}

  void take(std::string& body) {
    if (!on_line_) return;
    std::size_t begin = 0;
    for (std::size_t end; (end = body.find('\n', begin)) != std::string::npos; begin = end + 1)
      hand_out(body, begin, end);
    body.erase(0, begin);
    if (body.size() > max_line) fail(Errc::protocol, "the server sends a line of more than {} bytes", max_line);
  }
  void finish(std::string& body) {
    if (on_line_ && !body.empty()) hand_out(body, 0, body.size());
  }

 private:
  void hand_out(std::string_view body, std::size_t begin, std::size_t end) {
    std::string_view line = body.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    on_line_(line);
  }

  std::function<void(std::string_view)> on_line_;
};

std::string request_text(const Address& server, const HttpRequest& r) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: godwit\r\nConnection: close\r\n", r.method,
                                r.target, to_string(server));
  if (!r.accept.empty()) out += fmt::format("Accept: {}\r\n", r.accept);
  if (!r.body.empty() || r.method == "POST" || r.method == "PUT")
    out += fmt::format("Content-Type: {}\r\nContent-Length: {}\r\n", r.content_type, r.body.size());
  return out + "\r\n" + r.body;
}

void check_words(const HttpRequest& r) {
  for (const std::string* text : {&r.method, &r.target, &r.content_type, &r.accept})
    for (const char c : *text)
      if (static_cast<unsigned char>(c) <= 0x20 && !(c == ' ' && text != &r.method && text != &r.target))
        fail(Errc::invalid_argument, "'{}' cannot stand in an HTTP request", *text);
}

}  // namespace

awaitable<HttpResponse> http_request(Address server, TlsContext tls, HttpRequest request, Clock::duration limit,
                                     std::function<void(std::string_view)> on_line) {
  check_words(request);
  Connection c = co_await connect(server, std::move(tls), limit);
  require(c.peer(), "coordinator");
  const std::string text = request_text(server, request);
  awaitable<void> writing = c.write(text);
  co_await within(limit, "send the request", std::move(writing));

  http::response_parser<http::string_body> parser;
  parser.body_limit(on_line ? std::numeric_limits<std::uint64_t>::max() : max_reply);
  parser.eager(true);
  Lines lines(std::move(on_line));
  boost::beast::flat_buffer buffer(256 * 1024);
  std::string& body = parser.get().body();
  bool good = false;
  while (!parser.is_done()) {
    const auto space = buffer.prepare(16 * 1024);
    awaitable<std::size_t> reading = c.read_some(std::span(static_cast<std::byte*>(space.data()), space.size()));
    const std::size_t n = co_await within(limit, "wait for " + to_string(server), std::move(reading));
    boost::system::error_code ec;
    buffer.commit(n);
    if (n == 0)
      parser.put_eof(ec);
    else
      buffer.consume(parser.put(buffer.data(), ec));
    if (ec && ec != http::error::need_more) {
      const Errc code = n == 0 ? Errc::peer_lost : Errc::protocol;
      fail(code, "{}: bad HTTP answer: {}", to_string(server), ec.message());
    }
    good = parser.is_header_done() && parser.get().result_int() / 100 == 2;
    if (good) lines.take(body);
  }
  if (good) lines.finish(body);
  const auto type = parser.get()[http::field::content_type];
  co_return HttpResponse{
      .status = parser.get().result_int(), .content_type = std::string(type.data(), type.size()), .body = body};
}

}  // namespace godwit::net
