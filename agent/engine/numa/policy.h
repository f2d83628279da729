// The NUMA policy of a thread (set_mempolicy) or a mapping (mbind): asked for in a stopped task, checked, set again.
//
// What the kernel tells is what was asked for: with MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES the nodes as they
// were given, otherwise those of them that were there. Nodes that are not here it leaves out without a word as long as
// one is: so a policy without these flags needs all of its nodes. The home node of a mapping (set_mempolicy_home_node)
// it does not tell.
#pragma once

#include "agent/engine/numa/policy_text.h"
#include "agent/engine/ptrace/batch.h"
#include "common/image/numa.pb.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include <sys/types.h>

namespace godwit::engine::numa {

// A call of get_mempolicy(2) in a batch, and where its answer will be.
struct Question {
  std::size_t call;
  RemoteAddr mode, nodes;
};
inline constexpr std::size_t question_size = 256;  // of a batch's data
Question ask_thread(Batch& batch);
Question ask_mapping(Batch& batch, std::uint64_t address);  // not the thread's where the mapping has none
// Nothing for the default, also where nothing is mapped, or in a kernel without NUMA. Errc::refused for a kind that is
// not known here.
std::optional<Policy> answer(const Batch& batch, const Question& question);

// Of an image. It may still be one that is not to be had here.
bool valid(const Policy& policy);

// What this host lacks for `policy`, as a sentence; nothing when it can be had. `usable`: by whoever is to have it.
std::optional<std::string> lacking(const Policy& policy, const Nodes& usable);
// The same of a policy that was read in numa_maps: which nodes are meant is not known of every kind.
std::optional<std::string> lacking_as_shown(const Policy& shown, const Nodes& usable);
Nodes usable_nodes(pid_t pid);  // memory of which nodes its cpuset allows; empty: a kernel without NUMA

// The policies that one process is to have, each looked at once: its threads and mappings often have the same.
class Requirements {
 public:
  explicit Requirements(pid_t pid) : pid_(pid) {}
  // Errc::image_corrupt, or Errc::unsupported for what this host lacks.
  void require(const Policy& policy);

 private:
  pid_t pid_;
  std::optional<Nodes> usable_;
  std::set<std::string> fine_;
};

// None: the default.
void set_thread(Batch& batch, const Policy* policy);
enum class Pages { stay = 1, move };  // those that are there already
void set_mapping(Batch& batch, std::uint64_t start, std::uint64_t end, const Policy* policy, Pages pages);

}  // namespace godwit::engine::numa
