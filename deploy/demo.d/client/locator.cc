#include "deploy/demo.d/client/locator.h"

#include "common/base/waiting.h"

#include <nlohmann/json.hpp>

#include <spawn.h>

extern char** environ;

namespace godwit::demo {

namespace {

std::optional<std::string> output_of(const std::vector<std::string>& command) {
  auto [from_child, to_us] = make_pipe();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, to_us.get(), STDOUT_FILENO);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw syscall_error(error, fmt::format("run {}", command[0]));
  to_us.reset();
  std::string text = read_all(from_child.get(), 16u << 20);
  if (wait_for_child(child) != 0) return std::nullopt;
  return text;
}

}  // namespace

Locator Locator::at(Address fixed) {
  Locator locator;
  locator.fixed_ = std::move(fixed);
  return locator;
}

Locator Locator::of_workload(std::string workload, std::uint16_t port) {
  Locator locator;
  locator.workload_ = std::move(workload);
  locator.port_ = port;
  return locator;
}

std::optional<Address> Locator::locate() const {
  if (fixed_) return fixed_;
  const auto text = output_of({"timeout", "5", "godwit", "ps", "--json"});
  if (!text) return std::nullopt;
  const auto node = node_of(*text, workload_);
  if (!node) return std::nullopt;
  return Address{*node, port_};
}

std::optional<std::string> node_of(std::string_view ps_json, std::string_view workload) {
  const auto answer = nlohmann::json::parse(ps_json, nullptr, false);
  if (answer.is_discarded()) return std::nullopt;
  const auto& list = answer.is_object() ? answer.value("workloads", nlohmann::json::array()) : answer;
  for (const auto& entry : list)
    // Only a copy that runs answers; the frozen and the prepared one are listed too.
    if (entry.is_object() && entry.value("name", "") == workload && entry.value("state", "running") == "running" &&
        entry.contains("node") && entry["node"].is_string())
      return entry["node"].get<std::string>();
  return std::nullopt;
}

}  // namespace godwit::demo
