// NUMA policies of the mappings of one process (mbind), at the source.
//
// Only the process itself can be asked which mapping has one: numa_maps does not tell it from that of a thread. So it
// is asked about all of them in its first stop. In the freeze, where each question costs, it is asked again about those
// that had one and those that have changed or come since, as far as maps or a round's scan show it. What they do not
// show is a policy that was given to a mapping as a whole, or with a mapping that replaced its like after the last
// round.
#pragma once

#include "agent/engine/numa/policy.h"
#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/proc/maps.h"

#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// Of memory that is a file's in tmpfs (memfds and other shared memory too) the policy is the file's, by ranges, and so
// are the pages. Not carried.
bool policy_of_file(pid_t pid, const proc::Vma& vma);
inline constexpr std::string_view no_shared_policies = "the NUMA memory policy of shared memory ({}) is not carried";
inline constexpr std::string_view no_policies_hint = "start it without numactl, set_mempolicy or mbind";

class MappingPolicies {
 public:
  // They have none, but for those that begin at one of `placed`.
  void know_without(const std::vector<proc::VmaUsage>& usage, const std::set<std::uint64_t>& placed);
  // Of the stopped process. Errc::refused for a policy that cannot be carried.
  void ask(RemoteSyscalls& remote, RemoteAddr scratch, const std::vector<proc::Vma>& maps);
  bool has_to_ask(const std::vector<proc::Vma>& maps) const;
  void forget() { known_.clear(); }
  void forget(std::uint64_t start) { known_.erase(start); }  // another mapping is there

  // Null: the default, as far as is known.
  const numa::Policy* find(const proc::Vma& vma) const;

 private:
  bool known_without(const proc::Vma& vma) const;

  using Known = std::map<std::uint64_t, std::pair<proc::Vma, std::optional<numa::Policy>>>;
  Known known_;  // by start
};

}  // namespace godwit::engine
