#include "agent/engine/restore/clock_offsets.h"

#include "common/base/error.h"

#include <sstream>

namespace godwit::engine {
namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

}  // namespace

std::int64_t clock_offset(const std::string& text, std::string_view clock) {
  std::istringstream lines(text);
  std::string name;
  std::int64_t seconds = 0, nanoseconds = 0;
  while (lines >> name >> seconds >> nanoseconds) {
    if (name != clock) continue;
    std::int64_t offset = 0;
    if (__builtin_mul_overflow(seconds, second_ns, &offset) || __builtin_add_overflow(offset, nanoseconds, &offset))
      fail(Errc::internal, "the {} clock is {} seconds ahead", clock, seconds);
    return offset;
  }
  return 0;
}

std::int64_t clock_offset_for(std::uint64_t wanted, std::uint64_t now, std::int64_t offset) {
  std::int64_t ahead = 0, sum = 0;
  if (__builtin_sub_overflow(wanted, now, &ahead) || __builtin_add_overflow(offset, ahead, &sum))
    fail(Errc::image_corrupt, "no clock can be at {} ns", wanted);
  return sum;
}

std::string clock_offset_line(std::string_view clock, std::int64_t offset_ns) {
  const std::int64_t nanoseconds = (offset_ns % second_ns + second_ns) % second_ns;
  const std::int64_t seconds = offset_ns / second_ns - (offset_ns % second_ns < 0 ? 1 : 0);
  return fmt::format("{} {} {}\n", clock, seconds, nanoseconds);
}

}  // namespace godwit::engine
