// Commands that need no daemon: they become godwit-engine, found beside this program or in PATH.
#pragma once

#include <span>

namespace godwit::cli {

// `words`: the command and what follows it.
bool is_local(std::span<char* const> words);

// Does not return unless the engine cannot be executed: then an Error is thrown.
[[noreturn]] void exec_engine(int argc, char** argv);

}  // namespace godwit::cli
