#include "coordinator/json_file.h"

#include "common/base/error.h"
#include "common/base/fd.h"

#include <algorithm>
#include <set>
#include <vector>

namespace godwit::coordinator {
namespace {

using nlohmann::json;

constexpr std::size_t largest_file = 64u << 20;

std::size_t line_of(const std::string& text, std::size_t byte) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(byte, text.size()));
  return 1 + static_cast<std::size_t>(std::count(text.begin(), end, '\n'));
}

}  // namespace

json parse_json(const std::string& text, const std::string& what) {
  std::vector<std::set<std::string>> names;
  const auto look = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key && !names.back().insert(value.get<std::string>()).second)
      fail(Errc::invalid_argument, "{}: '{}' stands twice in one object", what, value.get<std::string>());
    return true;
  };
  try {
    return json::parse(text, look);
  } catch (const json::parse_error& e) {
    fail(Errc::invalid_argument, "{}, line {}: this is no JSON", what, line_of(text, e.byte));
  } catch (const json::exception& e) {  // a number that is none of the machine's
    fail(Errc::invalid_argument, "{}: {}", what, e.what());
  }
}

json read_json_file(const std::string& path) { return parse_json(read_file(path, largest_file), path); }

}  // namespace godwit::coordinator
