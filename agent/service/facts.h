// What a node is: sent to the coordinator at registration, compared at a migration's preflight. Reads only.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace godwit::service {

struct NodeFacts {
  std::string boot_id;
  std::string kernel;
  std::uint64_t memory_total = 0;
  std::uint64_t memory_available = 0;
  std::uint64_t xfeatures = 0;  // XCR0: the register state that this CPU and kernel can hold
  std::uint32_t cpus = 0;
  std::vector<std::string> cpu_flags;
  std::set<std::uint32_t> numa_nodes;  // whose memory it may use; none: a kernel without NUMA
};

NodeFacts read_facts();
std::uint64_t memory_available();
std::uint64_t enabled_xfeatures();  // 0: no xsave

std::uint64_t meminfo_bytes(const std::string& meminfo, const std::string& field);
std::vector<std::string> flags_in(const std::string& cpuinfo);

}  // namespace godwit::service
