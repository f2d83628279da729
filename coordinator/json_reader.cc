#include "coordinator/json_reader.h"

#include <algorithm>

namespace godwit::coordinator {

JsonReader::JsonReader(const nlohmann::json& object, std::string what) : object_(object), what_(std::move(what)) {
  if (!object_.is_object()) fail(Errc::invalid_argument, "{} must be a JSON object", what_);
}

const nlohmann::json* JsonReader::find(const std::string& member) {
  read_.insert(member);
  const auto it = object_.find(member);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::string JsonReader::text(const std::string& member, std::string otherwise, std::size_t longest) {
  const nlohmann::json* value = find(member);
  if (!value) return otherwise;
  if (!value->is_string()) fail(Errc::invalid_argument, "{}: '{}' must be a string", what_, member);
  std::string text = value->get<std::string>();
  if (text.size() > longest) fail(Errc::invalid_argument, "{}: '{}' is longer than {} bytes", what_, member, longest);
  if (text.find('\0') != std::string::npos) fail(Errc::invalid_argument, "{}: '{}' holds a NUL byte", what_, member);
  return text;
}

bool JsonReader::flag(const std::string& member, bool otherwise) {
  const nlohmann::json* value = find(member);
  if (!value) return otherwise;
  if (!value->is_boolean()) fail(Errc::invalid_argument, "{}: '{}' must be true or false", what_, member);
  return value->get<bool>();
}

std::uint64_t JsonReader::number(const std::string& member, std::uint64_t otherwise, std::uint64_t least,
                                 std::uint64_t most) {
  const nlohmann::json* value = find(member);
  if (!value) return otherwise;
  const bool natural = value->is_number_unsigned() || (value->is_number_integer() && value->get<std::int64_t>() >= 0);
  if (!natural || value->get<std::uint64_t>() < least || value->get<std::uint64_t>() > most)
    fail(Errc::invalid_argument, "{}: '{}' must be a whole number from {} to {}", what_, member, least, most);
  return value->get<std::uint64_t>();
}

std::uint64_t JsonReader::required_number(const std::string& member, std::uint64_t least, std::uint64_t most) {
  if (!find(member)) fail(Errc::invalid_argument, "{}: '{}' is missing", what_, member);
  return number(member, 0, least, most);
}

double JsonReader::real(const std::string& member, double otherwise, double least, double most) {
  const nlohmann::json* value = find(member);
  if (!value) return otherwise;
  const double number = value->is_number() ? value->get<double>() : -1;
  if (!value->is_number() || !(number >= least && number <= most))
    fail(Errc::invalid_argument, "{}: '{}' must be a number from {} to {}", what_, member, least, most);
  return number;
}

std::vector<std::string> JsonReader::texts(const std::string& member, std::size_t most) {
  const nlohmann::json* value = find(member);
  if (!value) return {};
  if (!value->is_array() || value->size() > most)
    fail(Errc::invalid_argument, "{}: '{}' must be an array of at most {} strings", what_, member, most);
  std::vector<std::string> found;
  for (const nlohmann::json& item : *value) {
    if (!item.is_string() || item.get_ref<const std::string&>().find('\0') != std::string::npos)
      fail(Errc::invalid_argument, "{}: '{}' must hold strings only", what_, member);
    found.push_back(item.get<std::string>());
  }
  return found;
}

std::vector<std::uint64_t> JsonReader::numbers(const std::string& member, std::vector<std::uint64_t> otherwise,
                                               std::uint64_t least, std::uint64_t most, std::size_t longest) {
  const nlohmann::json* value = find(member);
  if (!value) return otherwise;
  const auto fits = [&](const nlohmann::json& item) {
    return item.is_number_unsigned() && item.get<std::uint64_t>() >= least && item.get<std::uint64_t>() <= most;
  };
  if (!value->is_array() || value->empty() || value->size() > longest || !std::ranges::all_of(*value, fits))
    fail(Errc::invalid_argument, "{}: '{}' must be an array of 1 to {} whole numbers from {} to {}", what_, member,
         longest, least, most);
  return value->get<std::vector<std::uint64_t>>();
}

nlohmann::json JsonReader::object(const std::string& member) {
  const nlohmann::json* value = find(member);
  if (!value) return nlohmann::json::object();
  if (!value->is_object()) fail(Errc::invalid_argument, "{}: '{}' must be a JSON object", what_, member);
  return *value;
}

void JsonReader::end() const {
  for (const auto& [member, value] : object_.items())
    if (!read_.contains(member)) fail(Errc::invalid_argument, "{}: unknown member '{}'", what_, member);
}

}  // namespace godwit::coordinator
