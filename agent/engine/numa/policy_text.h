// NUMA policies as /proc has them: "bind=static:0-1". Pure.
//
// numa_maps shows a mapping's policy or, where it has none, that of the thread; and of nodes only those that are in use
// at this moment: with MPOL_F_STATIC_NODES or MPOL_F_RELATIVE_NODES that need not be those that the program gave.
#pragma once

#include "common/image/numa.pb.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace godwit::engine::numa {

using Policy = image::NumaPolicyEntry;
using Nodes = std::set<std::uint32_t>;

// Nodes that any kernel can have (CONFIG_NODES_SHIFT is 10 at most).
inline constexpr std::uint32_t most_nodes = 1024;

// "0-1,3". Nothing when it is no list of nodes.
std::optional<Nodes> parse_nodes(std::string_view list);
std::string to_text(const Nodes& nodes);

// "bind=static:0-1", as numa_maps has it. Nothing when it is a kind that is not known here.
std::optional<Policy> parse_policy(std::string_view text);
std::string to_text(const Policy& policy);

// From one line of numa_maps: the text of the policy. Empty: no such line. A line may be cut off.
std::string_view shown_policy(std::string_view line);
inline constexpr std::string_view default_policy = "default";

}  // namespace godwit::engine::numa
