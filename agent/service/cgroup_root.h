// Which tree of cgroups the records mean.
//
// They name a copy below the agent's root. Looked for below another root every copy is missing, and a missing copy is
// what lets the other side go on: a frozen one would be forgotten, or a running one be doubled. So a note beside the
// records keeps the root of this boot. The kernel gives a cgroup's id to no other one until the next boot, and finds by
// it what the paths of this life may not show.
#pragma once

#include "agent/workload/cgroup.h"

#include <optional>
#include <string>
#include <string_view>

namespace godwit::service {

struct CgroupRoot {
  std::string boot_id;
  std::uint64_t id = 0;
  std::string path;  // for people
};

// Errc::refused when the root of the note is another one, of this boot, and something still lives in it. Notes `root`.
void keep_cgroup_root(const std::string& note, const std::string& boot_id, const workload::Cgroup& root);

std::string to_text(const CgroupRoot& root);
std::optional<CgroupRoot> parse_cgroup_root(std::string_view text);  // nothing: it is no such note

}  // namespace godwit::service
