// What of a task itself (not of its memory or descriptors) cannot be carried, and what will be different.
#pragma once

#include "common/proc/reader.h"

#include <string>
#include <vector>

namespace godwit::engine::tasks {

struct Refusal {
  std::string what, reason, hint;
};

struct Refusals {
  std::vector<Refusal> refusals;
  std::vector<std::string> notices;
  std::vector<std::string> namespaces;    // that the task does not share with us
  std::vector<std::string> capabilities;  // that the tree needs
};

Refusals refusals_of(const proc::Reader& proc, pid_t pid);

std::uint64_t enabled_xfeatures();  // XCR0
std::string tracker_backend();

}  // namespace godwit::engine::tasks
