// Reads one JSON object member by member and, at the end, refuses what nobody asked for. Errc::invalid_argument names
// the member.
#pragma once

#include "common/base/error.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace godwit::coordinator {

class JsonReader {
 public:
  JsonReader(const nlohmann::json& object, std::string what);

  std::string text(const std::string& member, std::string otherwise = {}, std::size_t longest = 4096);
  bool flag(const std::string& member, bool otherwise);
  std::uint64_t number(const std::string& member, std::uint64_t otherwise, std::uint64_t least, std::uint64_t most);
  std::uint64_t required_number(const std::string& member, std::uint64_t least, std::uint64_t most);
  double real(const std::string& member, double otherwise, double least, double most);
  nlohmann::json object(const std::string& member);  // {} when it is not there
  std::vector<std::string> texts(const std::string& member, std::size_t most);
  std::vector<std::uint64_t> numbers(const std::string& member, std::vector<std::uint64_t> otherwise,
                                     std::uint64_t least, std::uint64_t most, std::size_t longest);
  void skip(const std::string& member) { read_.insert(member); }  // somebody else reads it
  const std::string& what() const { return what_; }
  void end() const;  // fails when a member was not read

 private:
  const nlohmann::json* find(const std::string& member);

  const nlohmann::json& object_;
  std::string what_;
  std::set<std::string> read_;
};

}  // namespace godwit::coordinator
