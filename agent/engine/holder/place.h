// Where the engine keeps what belongs to a running process: /run/godwit-engine/PID.STARTTIME[.WHAT], for root only. The
// start time tells a PID that is used again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include <sys/types.h>

namespace godwit::engine::holder {

// Where the node's agent listens for holders to start.
inline constexpr const char* agent_socket = "/run/godwit-agent/trackers";

// The directory is made when it is missing.
std::filesystem::path run_directory();
std::filesystem::path run_file(pid_t pid, std::uint64_t start_time, std::string_view what);

}  // namespace godwit::engine::holder
