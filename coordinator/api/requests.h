// What requests of the API say, read from their bodies and paths. Errc::invalid_argument for whatever does not fit.
#pragma once

#include "common/api/control.pb.h"
#include "coordinator/migration/migration.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::coordinator {

struct RunRequest {
  std::string node;
  api::RunWorkload run;
};
RunRequest run_request(const std::string& body);

struct KillRequest {
  std::string node;  // empty: wherever it is
  std::uint32_t signal = 0;
};
KillRequest kill_request(const std::string& body);

// What the operator states: that the destination's node is off, or that a copy which is held after a loss goes on.
Statement resolve_request(const std::string& body);
struct ResolveAt {
  std::string node;
  Statement statement = Statement::go_on;
};
ResolveAt resolve_at_request(const std::string& body);
std::uint64_t rate_request(const std::string& body);  // bytes per second

std::vector<std::string_view> split_path(std::string_view path);  // which begins with a slash

// The value of `key` in "a=1&b=2"; names and numbers only, so nothing is escaped.
std::string parameter(const std::string& query, std::string_view key);
std::int64_t number_parameter(const std::string& query, std::string_view key, std::int64_t otherwise,
                              std::int64_t most);

}  // namespace godwit::coordinator
