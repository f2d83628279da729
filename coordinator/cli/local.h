// Commands that need no daemon: they become godwit-engine, or godwit-pageserver, found beside this program or in PATH.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace godwit::cli {

// `words`: the command and what follows it, here as well. Of CRIU's commands those that have no meaning here:
// Errc::unsupported.
void refuse_criu_command(std::span<char* const> words);

// `words`: the command and what follows it.
bool is_local(std::span<char* const> words);

// Returns by an Error when a page server is asked for in words that are wrong, or cannot be reached, or when the other
// program cannot be executed; and when there is nothing to do (--help).
void exec_local(std::vector<std::string> words);

}  // namespace godwit::cli
