#include "coordinator/cli/client.h"

#include <boost/asio/io_context.hpp>

#include <charconv>

namespace godwit::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto answer_limit = 75s;   // a dry run with a probe waits for two agents
constexpr auto silence_limit = 30s;  // the coordinator says something every ten

net::awaitable<void> perform(net::Address address, net::TlsContext tls, net::HttpRequest request, Clock::duration limit,
                             std::function<void(std::string_view)> on_line, net::HttpResponse* response) {
  *response = co_await net::http_request(address, tls, std::move(request), limit, std::move(on_line));
}

// A word of a command line may be no UTF-8; JSON is.
std::string text_of(const json& body) {
  try {
    return body.dump();
  } catch (const json::type_error&) {
    throw Error(Errc::invalid_argument, "an argument is not UTF-8", "the API takes no other");
  }
}

}  // namespace

json body_of(const net::HttpResponse& response) {
  json body = json::parse(response.body, nullptr, false);
  if (response.status < 400 && !body.is_discarded()) return body;
  const auto text = [&body](const char* member) {
    const auto found = body.find(member);
    return found != body.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  if (response.status < 400 || !body.is_object() || text("code").empty())
    fail(Errc::protocol, "the coordinator answered with status {} and no JSON of its own", response.status);
  throw Error(errc_from_name(text("code")), text("message"), text("hint"));
}

void EventLines::take(std::string_view line) {
  const auto field = [&](std::string_view name) -> std::optional<std::string_view> {
    if (!line.starts_with(name)) return std::nullopt;
    std::string_view value = line.substr(name.size());
    if (value.starts_with(' ')) value.remove_prefix(1);
    return value;
  };
  if (line.empty()) {
    if (!data_.empty()) {
      current_.body = json::parse(data_, nullptr, false);
      if (current_.body.is_object()) sink_(current_);
    }
    current_ = {};
    data_.clear();
  } else if (const auto id = field("id:")) {
    std::from_chars(id->data(), id->data() + id->size(), current_.id);
  } else if (const auto kind = field("event:")) {
    current_.kind = *kind;
  } else if (const auto data = field("data:")) {
    data_ += *data;
  }
}

Client::Client(const std::string& coordinator, const std::string& certs)
    : address_(net::parse_address(coordinator)), certs_(certs) {}

net::HttpResponse Client::request(net::HttpRequest request, Clock::duration limit,
                                  std::function<void(std::string_view)> on_line) {
  if (!tls_) tls_ = net::TlsContext::load(certs_);
  net::asio::io_context io{1};
  net::HttpResponse response;
  std::exception_ptr problem;
  net::spawn(io.get_executor(), perform(address_, *tls_, std::move(request), limit, std::move(on_line), &response),
             [&problem](std::exception_ptr p) { problem = p; });
  io.run();
  if (!problem) return response;
  const Error e = net::to_error(problem);
  throw Unreachable(Error(e.errc(), fmt::format("coordinator {}: {}", net::to_string(address_), e.message()),
                          "is it running there? --coordinator or GODWIT_COORDINATOR says where to look"));
}

json Client::get(const std::string& target) { return body_of(request({.target = target}, answer_limit)); }

json Client::post(const std::string& target, const json& body) {
  return body_of(request({.method = "POST", .target = target, .body = text_of(body)}, answer_limit));
}

void Client::follow(const std::string& target, const std::function<void(const ServerEvent&)>& on_event) {
  EventLines lines(on_event);
  const net::HttpResponse response = request({.target = target, .accept = "text/event-stream"}, silence_limit,
                                             [&lines](std::string_view line) { lines.take(line); });
  if (response.status >= 400) body_of(response);
}

}  // namespace godwit::cli
