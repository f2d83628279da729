// The other programs of this installation.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace godwit::cli {

// Becomes `program`, found beside this one or in PATH. Returns by an Error only.
[[noreturn]] void exec_beside(std::string_view program, const std::vector<std::string>& words);

}  // namespace godwit::cli
