// What of a task itself (not of its memory or descriptors) cannot be carried, and what will be different. Reads only.
#pragma once

#include "common/proc/reader.h"

#include <set>
#include <string>
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
  std::set<std::string> numa_policies;  // that its threads seem to have, as numa_maps shows them
};

Refusals refusals_of(const proc::Reader& proc, pid_t pid);

// What can change while a process is looked at; asked again at the freeze. `name` is the thread in the refusals.
std::vector<Refusal> refusals_of_thread(const std::string& name, const proc::Stat& stat, const proc::Status& status);

// Errc::refused with all of them, when there are any.
void throw_refusals(const std::vector<Refusal>& refusals);

std::uint64_t enabled_xfeatures();  // XCR0
std::string tracker_backend();

}  // namespace godwit::engine::tasks
