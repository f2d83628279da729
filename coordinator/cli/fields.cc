#include "coordinator/cli/fields.h"

#include "common/base/units.h"
#include "coordinator/cli/report.h"

namespace godwit::cli {

using nlohmann::json;

std::string text(const json& object, const char* member) {
  const auto it = object.find(member);
  return it != object.end() && it->is_string() ? printable(it->get<std::string>()) : "";
}

double number(const json& object, const char* member) {
  const auto it = object.find(member);
  return it != object.end() && it->is_number() ? it->get<double>() : 0;
}

std::uint64_t count(const json& object, const char* member) {
  const auto it = object.find(member);
  return it != object.end() && it->is_number_integer() ? it->get<std::uint64_t>() : 0;
}

const json& list(const json& object, const char* member) {
  static const json none = json::array();
  const auto it = object.find(member);
  return it != object.end() && it->is_array() ? *it : none;
}

std::string or_dash(std::string text) { return text.empty() ? "-" : text; }
std::string bytes(double n) { return n > 0 ? human_bytes(static_cast<std::uint64_t>(n)) : "0 B"; }

json object(const json& of, const char* member) {
  const auto it = of.find(member);
  return it != of.end() && it->is_object() ? *it : json::object();
}

}  // namespace godwit::cli
