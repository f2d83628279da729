#pragma once
// NUMA memory policies of this program's threads and mappings. On a machine with a single node, too: most policies can
// be told apart there.

#include "tests/workloads/workload.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <linux/mempolicy.h>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::workloads::numa {

constexpr int weighted_interleave = 6;  // MPOL_WEIGHTED_INTERLEAVE, 6.9+; not in older headers

struct Policy {
  int mode = MPOL_DEFAULT;  // with flags
  std::array<unsigned long, 16> nodes{};
  bool operator==(const Policy&) const = default;
  std::string text() const {
    char line[64];
    std::snprintf(line, sizeof line, "mode %#x of nodes %#lx", static_cast<unsigned>(mode), nodes[0]);
    return line;
  }
};
constexpr unsigned long mask_bits = 16 * 64 + 1;  // the kernel takes one off

// Of the calling thread; of the mapping at `at`, not the thread's where that has none.
inline Policy of_thread() {
  Policy policy;
  must(syscall(SYS_get_mempolicy, &policy.mode, policy.nodes.data(), mask_bits, nullptr, 0), "get_mempolicy");
  return policy;
}
inline Policy of_memory(const void* at) {
  Policy policy;
  must(syscall(SYS_get_mempolicy, &policy.mode, policy.nodes.data(), mask_bits, at, MPOL_F_ADDR), "get_mempolicy");
  return policy;
}

// False, with a word in the log, where this kernel has no such policy.
inline bool set_for_thread(const Policy& policy) {
  if (syscall(SYS_set_mempolicy, policy.mode, policy.nodes.data(), mask_bits) == 0) return true;
  std::fprintf(stderr, "no thread can have %s here: %m\n", policy.text().c_str());
  return false;
}
inline bool set_for_memory(void* at, std::size_t bytes, const Policy& policy) {
  if (syscall(SYS_mbind, at, bytes, policy.mode, policy.nodes.data(), mask_bits, 0) == 0) return true;
  std::fprintf(stderr, "no memory can have %s here: %m\n", policy.text().c_str());
  return false;
}

// The first node that this program may use. Ends it where the kernel knows of none.
inline unsigned long first_node(const Workload& w) {
  Policy allowed;
  if (syscall(SYS_get_mempolicy, nullptr, allowed.nodes.data(), mask_bits, nullptr, MPOL_F_MEMS_ALLOWED) != 0)
    w.skip("this kernel has no NUMA memory policies");
  return allowed.nodes[0] & -allowed.nodes[0];
}

}  // namespace godwit::workloads::numa
