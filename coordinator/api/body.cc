#include "coordinator/api/body.h"

#include "coordinator/json_reader.h"

namespace godwit::coordinator {
namespace {

using nlohmann::json;

constexpr std::size_t largest_body = 256 * 1024;  // a command line and an environment

}  // namespace

net::HttpResponse answer(const json& body, unsigned status) {
  return {.status = status, .body = body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"};
}

json parse_body(const std::string& body) {
  if (body.size() > largest_body)
    fail(Errc::invalid_argument, "the request's body has {} bytes; at most {} are taken", body.size(), largest_body);
  json parsed = json::parse(body, nullptr, false);
  if (parsed.is_discarded()) fail(Errc::invalid_argument, "the request's body is no JSON");
  return parsed;
}

void no_members(const std::string& body, const char* what) {
  const json parsed = body.empty() ? json::object() : parse_body(body);
  JsonReader(parsed, what).end();
}

}  // namespace godwit::coordinator
