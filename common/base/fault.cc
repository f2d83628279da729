#include "common/base/fault.h"

#include "common/base/error.h"
#include "common/base/fault_points.h"
#include "common/base/log.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>

#include <unistd.h>

namespace godwit::fault {
namespace {

std::map<std::string, std::string, std::less<>> parse(const char* text) {
  std::map<std::string, std::string, std::less<>> armed;
  if (!text) return armed;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const auto eq = one.find('=');
    if (std::ranges::find(names, one.substr(0, eq)) == names.end())
      fail(Errc::invalid_argument, "GODWIT_FAULT names '{}', which is no fault point", one.substr(0, eq));
    armed.emplace(one.substr(0, eq), eq == std::string_view::npos ? "fail" : one.substr(eq + 1));
  }
  return armed;
}

void act(std::string_view name, const std::string& action) {
  log::warn("fault.hit", {{"point", name}, {"action", action}});
  if (action == "kill") ::kill(::getpid(), SIGKILL);
  if (action == "fail") fail(Errc::internal, "fault injected at {}", name);
  if (action.starts_with("pause:")) std::this_thread::sleep_for(std::chrono::milliseconds(std::stol(action.substr(6))));
}

}  // namespace

void point(std::string_view name) {
  static const auto armed = parse(std::getenv("GODWIT_FAULT"));
  if (armed.empty()) [[likely]] return;
  if (const auto it = armed.find(name); it != armed.end()) act(name, it->second);
}

}  // namespace godwit::fault
