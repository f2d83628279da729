// Where the command stands. CRIU's may have options in front of it, and two of our commands have two words.
#pragma once

#include <string>
#include <vector>

namespace godwit::cli {

// With the command in front, when it is one that needs no daemon or one that only CRIU has; else as they are.
std::vector<std::string> command_first(std::vector<std::string> words);

}  // namespace godwit::cli
