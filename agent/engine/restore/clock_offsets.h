// /proc/PID/timens_offsets: by how much the clocks of a time namespace are ahead of the host's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace godwit::engine {

// In nanoseconds, of "monotonic" or "boottime"; 0 when the text does not name it. Errc::internal.
std::int64_t clock_offset(const std::string& text, std::string_view clock);

// With which a clock that is at `now` with this offset is at `wanted`, which an image says. Errc::image_corrupt.
std::int64_t clock_offset_for(std::uint64_t wanted, std::uint64_t now, std::int64_t offset);

// A line of the file as the kernel takes it: its nanoseconds are never negative.
std::string clock_offset_line(std::string_view clock, std::int64_t offset_ns);

}  // namespace godwit::engine
