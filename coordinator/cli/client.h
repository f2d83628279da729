// The API as blocking calls, one at a time. An answer of 400 and above is thrown as the Error it describes; no
// connection at all is Unreachable.
#pragma once

#include "common/net/http.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <string>

namespace godwit::cli {

class Unreachable : public Error {
 public:
  explicit Unreachable(const Error& why) : Error(why) {}
};

struct ServerEvent {
  std::int64_t id = 0;  // 0: not in the journal
  std::string kind;
  nlohmann::json body;
};

// Puts the lines of a text/event-stream together.
class EventLines {
 public:
  explicit EventLines(std::function<void(const ServerEvent&)> sink) : sink_(std::move(sink)) {}
  void take(std::string_view line);

 private:
  std::function<void(const ServerEvent&)> sink_;
  ServerEvent current_;
  std::string data_;
};

// What an answer says; one of 400 and above is thrown as the Error it describes. Errc::protocol for what is none.
nlohmann::json body_of(const net::HttpResponse& response);

class Client {
 public:
  Client(const std::string& coordinator, const std::string& certs);

  nlohmann::json get(const std::string& target);
  nlohmann::json post(const std::string& target, const nlohmann::json& body);
  // Hands out events as they come, until the stream ends or breaks (Unreachable).
  void follow(const std::string& target, const std::function<void(const ServerEvent&)>& on_event);

 private:
  net::HttpResponse request(net::HttpRequest request, Clock::duration limit,
                            std::function<void(std::string_view)> on_line = {});

  net::Address address_;
  std::string certs_;
  std::optional<net::TlsContext> tls_;  // from the first request on: not every command makes one
};

}  // namespace godwit::cli
