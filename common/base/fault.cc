#include "common/base/fault.h"

#include "common/base/error.h"
#include "common/base/fault_points.h"
#include "common/base/log.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include <unistd.h>

namespace godwit::fault {
namespace {

using Armed = std::map<std::string, std::string, std::less<>>;

Armed parse(std::string_view rest) {
  Armed armed;
  while (!rest.empty()) {
    const std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const auto eq = one.find('=');
    if (std::ranges::find(names, one.substr(0, eq)) == names.end())
      fail(Errc::invalid_argument, "'{}' is armed, which is no fault point", one.substr(0, eq));
    armed.emplace(one.substr(0, eq), eq == std::string_view::npos ? "fail" : one.substr(eq + 1));
  }
  return armed;
}

void act(std::string_view name, const std::string& action) {
  log::warn("fault.hit", {{"point", name}, {"action", action}});
  if (action == "kill") ::kill(::getpid(), SIGKILL);
  if (action == "stop") ::raise(SIGSTOP);
  constexpr std::string_view with_code = "fail:";
  if (action.starts_with(with_code))
    fail(errc_from_name(action.substr(with_code.size())), "fault injected at {}", name);
  if (action == "fail") fail(Errc::internal, "fault injected at {}", name);
  if (action.starts_with("pause:")) std::this_thread::sleep_for(std::chrono::milliseconds(std::stol(action.substr(6))));
}

// What the file arms this point with, taken out of it.
std::optional<std::string> take(const char* path, std::string_view name) {
  std::ifstream in(path);
  std::string text;
  if (!std::getline(in, text)) return std::nullopt;
  Armed armed = parse(text);
  const auto it = armed.find(name);
  if (it == armed.end()) return std::nullopt;
  const std::string action = it->second;
  armed.erase(it);
  std::string rest;
  for (const auto& [point, what] : armed) rest += (rest.empty() ? "" : ",") + point + "=" + what;
  if (rest.empty()) return ::unlink(path) == 0 ? std::optional(action) : std::nullopt;  // else another process took it
  std::ofstream(path) << rest;
  return action;
}

const char* or_empty(const char* text) { return text ? text : ""; }

}  // namespace

void point(std::string_view name) {
  static const Armed armed = parse(or_empty(std::getenv("GODWIT_FAULT")));
  static const char* const file = std::getenv("GODWIT_FAULT_FILE");
  if (armed.empty() && !file) [[likely]]
    return;
  if (const auto it = armed.find(name); it != armed.end()) act(name, it->second);
  if (!file) return;
  if (const auto action = take(file, name)) act(name, *action);
}

}  // namespace godwit::fault
