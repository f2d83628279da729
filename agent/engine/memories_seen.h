// What a survey has seen of the memory of a tree, for a dump that follows at once: reading smaps again would take it
// another 12 to 30 ms per GiB.
#pragma once

#include "common/proc/maps.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

struct MemoriesSeen {
  struct Memory {
    std::string program;  // program_of(), before smaps was read
    std::vector<proc::VmaUsage> smaps;
    std::set<std::uint64_t> placed;  // starts of those at which numa_maps shows a policy, maybe a thread's
    std::uint64_t at_ns = 0;         // monotonic: when that was read
  };
  std::map<pid_t, Memory> of;
};

}  // namespace godwit::engine
