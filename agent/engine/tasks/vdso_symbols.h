// Where a vdso has its functions, for two of them to be compared: a program may hold addresses within it.
//
// The bytes may come from an image, and are hostile until checked: Errc::image_corrupt.
#pragma once

#include <string>
#include <string_view>

namespace godwit::engine::tasks {

// A line for each dynamic symbol: its name and its value.
std::string vdso_symbols(std::string_view vdso);

}  // namespace godwit::engine::tasks
