// Commands that need no daemon: they become godwit-engine, or godwit-pageserver, found beside this program or in PATH.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace godwit::cli {

// `words`: the command and what follows it.
bool is_local(std::span<char* const> words);

// Returns by an Error only: when a page server cannot be reached, or the other program not be executed.
[[noreturn]] void exec_local(std::vector<std::string> words);

}  // namespace godwit::cli
