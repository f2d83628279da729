// Members of the API's answers as text and numbers for people; what is missing is empty, zero or "-".
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace godwit::cli {

std::string text(const nlohmann::json& object, const char* member);  // printable
double number(const nlohmann::json& object, const char* member);
std::uint64_t count(const nlohmann::json& object, const char* member);
const nlohmann::json& list(const nlohmann::json& object, const char* member);
nlohmann::json object(const nlohmann::json& of, const char* member);

std::string or_dash(std::string text);
std::string bytes(double n);

}  // namespace godwit::cli
