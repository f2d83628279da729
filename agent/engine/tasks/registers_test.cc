#include "agent/engine/tasks/registers.h"

#include "common/base/error.h"

#include <cstring>
#include <gtest/gtest.h>
#include <string>

namespace godwit::engine::tasks {
namespace {

constexpr std::size_t header_at = 512, header_size = 64;

// As a CPU with larger state than this one writes it down.
image::ThreadInfoX86 with_in_use(std::uint64_t features, std::size_t size) {
  std::string x(size, '\0');
  std::memcpy(x.data() + header_at, &features, sizeof features);
  image::ThreadInfoX86 info;
  info.set_xstate(std::move(x));
  return info;
}

// Bit 62 belongs to no CPU.
TEST(ExtendedState, a_component_that_no_cpu_here_has_is_refused) {
  for (const unsigned component : {9U, 10U, 11U, 12U, 20U, 62U}) {
    const auto info = with_in_use(std::uint64_t{1} << component, 16384);
    try {
      registers::xstate_of(info, header_at + header_size);
      ADD_FAILURE() << component;
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::unsupported) << component;
    }
  }
}

TEST(ExtendedState, what_uses_only_the_legacy_part_fits_everywhere) {
  EXPECT_EQ(registers::xstate_of(with_in_use(3, 16384), header_at + header_size).size(), header_at + header_size);
}

TEST(ExtendedState, of_one_size_is_taken_as_it_is) {
  const auto info = with_in_use(7, 2696);
  EXPECT_EQ(registers::xstate_of(info, 2696), info.xstate());
}

}  // namespace
}  // namespace godwit::engine::tasks
