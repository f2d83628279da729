// HTTPS as the API needs it: small requests, JSON answers, and answers that go on for as long as there is news
// (JSON lines or server-sent events). HTTP/1.1 over the mutual TLS of this folder; every request comes with
// the Identity of the client's certificate.
//
// Bounds: 16 KiB of header, 1 MiB of request body, 64 MiB of reply body (client), 60 s between requests.
#pragma once

#include "common/net/connection.h"
#include "common/net/listener.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace godwit::net {

struct HttpRequest {
  std::string method = "GET";
  std::string target = "/";
  std::string body;
  std::string content_type = "application/json";
  std::string accept;
  Identity peer;  // server side: who asks
};

// An answer under way, sent piece by piece as the handler goes along. A write fails when the client has gone.
class HttpStream {
 public:
  virtual ~HttpStream() = default;
  virtual awaitable<void> write(std::string text) = 0;
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  // When set: `body` is sent first, then whatever this writes, until it returns.
  std::function<awaitable<void>(std::shared_ptr<HttpStream>)> stream;
};

// What it throws becomes a Failure in JSON: {"code", "message", "hint"} with a fitting status.
using HttpHandler = std::function<awaitable<HttpResponse>(HttpRequest)>;

unsigned status_of(Errc code);

class HttpServer {
 public:
  HttpServer(Executor executor, const Address& address, TlsContext tls, HttpHandler handler);
  asio::ip::tcp::endpoint endpoint() const { return listener_.endpoint(); }
  void close() { listener_.close(); }

 private:
  Listener listener_;
};

// One request on a connection of its own. `limit` bounds connecting and the wait for the answer's head and for each
// further piece of it (0 pieces for that long is Errc::timed_out; a stream must say something now and then).
// With `on_line` the body of a 2xx answer is handed out line by line as it arrives, and is not collected.
// An answer of 400 and above is returned, not thrown.
awaitable<HttpResponse> http_request(Address server, TlsContext tls, HttpRequest request, Clock::duration limit,
                                     std::function<void(std::string_view)> on_line = {});

}  // namespace godwit::net
