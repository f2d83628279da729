// Options that some commands have and others do not: who gives one to the wrong command is told which are the right
// ones.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace godwit {

// `word` as it stands on the command line. "dump and pre-dump"; nothing: no command has it. tests/compat/options
// compares this with what the commands say of themselves.
std::optional<std::string> commands_with(std::string_view word);

// Whether a word of a command line is one of `options`, which have a blank in between: a letter's value may stand right
// behind it, that of a name behind '='.
bool names_one(std::string_view options, std::string_view word);

}  // namespace godwit
