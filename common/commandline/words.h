// What the command lines of all commands that CRIU has as well have in common. For CLI11.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace godwit {

void add_verbosity(CLI::App& app, int& verbosity);

// Reads -v as CRIU does. Throws what CLI11 throws; what no option took is left to refuse_word().
void parse_words(CLI::App& app, const std::vector<std::string>& words);

// Of a word that no option of `command` ("dump") took: Errc::invalid_argument, with the reason where CRIU has it, with
// those that take it where other commands do.
[[noreturn]] void refuse_word(const std::string& command, const std::string& word);

}  // namespace godwit
