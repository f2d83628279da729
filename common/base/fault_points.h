// Every fault point in the code, so that a test can walk through them and a misspelt name is an error.
#pragma once

#include <array>
#include <string_view>

namespace godwit::fault {

inline constexpr auto names = std::to_array<std::string_view>({
    "test.point",
    "agent.records.sync",
});

}  // namespace godwit::fault
