#include "agent/workload/saved.h"

#include "common/base/error.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace godwit::workload {

void check_workload_name(const std::string& name) {
  const auto fine = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  if (name.empty() || name.size() > 63 || name.front() == '.' || !std::ranges::all_of(name, fine)) {
    fail(Errc::invalid_argument, "'{}' is no name of a workload: up to 63 letters, digits, '-', '_', '.'", name);
  }
}

Saved parse_saved(const std::string& name, const std::string& bytes) {
  // starting: of a program that nobody has heard of yet; a later life of the agent ends it.
  constexpr std::array<std::string_view, 5> states{"starting", "building", "prepared", "running", "exited"};
  check_workload_name(name);
  Saved saved;
  if (!saved.ParseFromString(bytes)) fail(Errc::invalid_argument, "the file of workload '{}' cannot be read", name);
  if (saved.info().name() != name)
    fail(Errc::invalid_argument, "the file of workload '{}' is that of '{}'", name, saved.info().name());
  if (std::ranges::find(states, saved.info().state()) == states.end())
    fail(Errc::invalid_argument, "the file of workload '{}' says that it is '{}'", name, saved.info().state());
  return saved;
}

}  // namespace godwit::workload
