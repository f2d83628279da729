#include "coordinator/api/requests.h"

#include "coordinator/api/body.h"
#include "coordinator/json_reader.h"
#include "coordinator/migration/json.h"
#include "coordinator/migration/migration.h"

#include <algorithm>
#include <charconv>

namespace godwit::coordinator {

using nlohmann::json;

RunRequest run_request(const std::string& body) {
  const json parsed = parse_body(body);
  JsonReader in(parsed, "workload");
  RunRequest request{.node = in.text("node"), .run = {}};
  api::RunWorkload& run = request.run;
  run.set_name(in.text("name"));
  for (std::string& a : in.texts("argv", 4096)) run.add_argv(std::move(a));
  for (std::string& e : in.texts("environment", 4096)) run.add_environment(std::move(e));
  run.set_directory(in.text("directory", "/"));
  run.set_output(in.text("output"));
  run.set_uid(static_cast<std::uint32_t>(in.number("uid", 0, 0, 0xffff'fffe)));
  run.set_gid(static_cast<std::uint32_t>(in.number("gid", 0, 0, 0xffff'fffe)));
  in.end();
  check_name("workload", run.name());
  check_name("node", request.node);
  if (run.argv().empty() || run.argv(0).empty()) fail(Errc::invalid_argument, "workload: 'argv' names no program");
  for (const std::string& e : run.environment())
    if (e.find('=') == std::string::npos || e.starts_with('='))
      fail(Errc::invalid_argument, "workload: environment '{}' is not NAME=VALUE", e);
  return request;
}

KillRequest kill_request(const std::string& body) {
  const json parsed = body.empty() ? json::object() : parse_body(body);
  JsonReader in(parsed, "kill");
  KillRequest request{.node = in.text("node"), .signal = static_cast<std::uint32_t>(in.number("signal", 15, 1, 64))};
  in.end();
  return request;
}

namespace {

Statement statement_in(JsonReader& in) {
  const bool destination = in.flag("destination_is_off", false), source = in.flag("source_is_off", false);
  const bool go_on = in.flag("go_on", false);
  in.end();
  if (destination + source + go_on > 1)
    fail(Errc::invalid_argument, "resolve: one of 'destination_is_off', 'source_is_off' and 'go_on'");
  if (!destination && !source && !go_on)
    throw Error(Errc::invalid_argument, "nobody states that a node is off, or that the copy at the source goes on",
                "say so with \"destination_is_off\": true or \"source_is_off\": true when that node is powered off, or "
                "was rebooted; with \"go_on\": true when the source is held after a loss");
  return destination ? Statement::destination_is_off : source ? Statement::source_is_off : Statement::go_on;
}

}  // namespace

Statement resolve_request(const std::string& body) {
  const json parsed = body.empty() ? json::object() : parse_body(body);
  JsonReader in(parsed, "resolve");
  return statement_in(in);
}

ResolveAt resolve_at_request(const std::string& body) {
  const json parsed = body.empty() ? json::object() : parse_body(body);
  JsonReader in(parsed, "resolve");
  ResolveAt request{.node = in.text("node")};
  request.statement = statement_in(in);
  check_name("node", request.node);
  if (request.statement == Statement::source_is_off)
    throw Error(Errc::invalid_argument,
                "without a migration in the journal nobody knows whether what a destination has "
                "prepared is the last of the workload",
                "only a source can be named so");
  return request;
}

std::uint64_t rate_request(const std::string& body) {
  const json parsed = parse_body(body);
  JsonReader in(parsed, "rate");
  const std::uint64_t rate = in.required_number("rate_limit", 0, most_rate_limit);
  in.end();
  return rate;
}

std::vector<std::string_view> split_path(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::size_t end = std::min(path.find('/'), path.size());
    parts.push_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return parts;
}

std::string parameter(const std::string& query, std::string_view key) {
  std::string_view rest = query;
  while (!rest.empty()) {
    const std::string_view one = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    if (one.starts_with(key) && one.size() > key.size() && one[key.size()] == '=')
      return std::string(one.substr(key.size() + 1));
  }
  return {};
}

std::int64_t number_parameter(const std::string& query, std::string_view key, std::int64_t otherwise,
                              std::int64_t most) {
  const std::string text = parameter(query, key);
  if (text.empty()) return otherwise;
  std::int64_t value = -1;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc{} || end != text.data() + text.size() || value < 0 || value > most)
    fail(Errc::invalid_argument, "'{}' must be a number from 0 to {}", key, most);
  return value;
}

}  // namespace godwit::coordinator
