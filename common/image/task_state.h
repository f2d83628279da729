// TaskCoreEntry.task_state. CRIU's values.
#pragma once

#include <cstdint>

namespace godwit::image::task_state {

inline constexpr std::uint32_t alive = 1;
inline constexpr std::uint32_t dead = 2;
inline constexpr std::uint32_t stopped = 3;

}  // namespace godwit::image::task_state
