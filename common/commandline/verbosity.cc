#include "common/commandline/verbosity.h"

#include <algorithm>
#include <cctype>

namespace godwit {
namespace {

constexpr std::string_view long_name = "--verbosity";

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 4 &&
         std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c); });
}

bool is_letters(std::string_view word) {
  return word.size() >= 2 && word[0] == '-' && std::ranges::all_of(word.substr(1), [](char c) { return c == 'v'; });
}

}  // namespace

std::vector<std::string> spell_out_verbosity(const std::vector<std::string>& words) {
  std::vector<std::string> out;
  int level = usual_verbosity;
  std::size_t last = 0;
  bool given = false;
  const auto set = [&](int to) {
    level = to;
    last = out.size();
    given = true;
  };
  for (std::size_t i = 0; i < words.size(); i++) {
    const std::string_view word = words[i];
    if (is_letters(word)) {
      set(level + static_cast<int>(word.size()) - 1);
    } else if (word.starts_with("-v") && is_number(word.substr(2))) {
      set(std::stoi(words[i].substr(2)));
    } else if (word.starts_with(long_name) && word.substr(long_name.size()).starts_with("=") &&
               is_number(word.substr(long_name.size() + 1))) {
      set(std::stoi(words[i].substr(long_name.size() + 1)));
    } else if (word == long_name) {
      const bool number = i + 1 < words.size() && is_number(words[i + 1]);
      set(number ? std::stoi(words[++i]) : level + 1);
    } else {
      out.push_back(words[i]);
    }
  }
  if (given)
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(last),
               std::string(long_name) + "=" + std::to_string(std::min(level, highest_verbosity)));
  return out;
}

log::Level level_of(int verbosity) {
  switch (verbosity) {
    case 0: return log::Level::none;
    case 1: return log::Level::error;
    case 2: return log::Level::warn;
    case 3: return log::Level::info;
    default: return log::Level::debug;
  }
}

}  // namespace godwit
