// What of a task itself (not of its memory or descriptors) cannot be carried, and what will be different. Reads only.
#pragma once

#include "common/proc/reader.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::engine::tasks {

struct Refusal {
  std::string what, reason, hint;
  std::string option{};  // CRIU's for it, which is taken and does not help yet
};

struct Refusals {
  std::vector<Refusal> refusals;
  std::vector<std::string> notices;
  std::vector<std::string> namespaces;  // that the task does not share with us
};

Refusals refusals_of(const proc::Reader& proc, pid_t pid);

// What can change while a process is looked at; asked again at the freeze. `name` is the thread in the refusals.
std::vector<Refusal> refusals_of_thread(const std::string& name, const proc::Stat& stat, const proc::Status& status);

// From one line of numa_maps: the policy, unless it is the default.
std::optional<std::string> numa_policy(std::string_view line);

// Errc::refused with all of them, when there are any.
void throw_refusals(const std::vector<Refusal>& refusals);

std::uint64_t enabled_xfeatures();  // XCR0
std::string tracker_backend();

}  // namespace godwit::engine::tasks
