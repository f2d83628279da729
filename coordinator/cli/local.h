// Commands that need no daemon: they become godwit-engine, or godwit-pageserver, found beside this program or in PATH.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace godwit::cli {

// One that needs no daemon (kill may be one), or one that only CRIU has.
bool is_criu_command(std::string_view command);

// In what follows, `words` are the command and what belongs to it.

// Of CRIU's commands those that have no meaning here: Errc::unsupported.
void refuse_criu_command(const std::vector<std::string>& words);

bool is_local(const std::vector<std::string>& words);

// Returns by an Error when a page server is asked for in words that are wrong, or cannot be reached, or when the other
// program cannot be executed; and when there is nothing to do (--help).
void exec_local(std::vector<std::string> words);

}  // namespace godwit::cli
