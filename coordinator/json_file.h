// A JSON file that people write: a syntax error is named with its line, and a name that stands twice in an object is
// refused, because only one of the two would count.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace godwit::coordinator {

nlohmann::json parse_json(const std::string& text, const std::string& what);  // Errc::invalid_argument
nlohmann::json read_json_file(const std::string& path);                       // and those of reading a file

}  // namespace godwit::coordinator
