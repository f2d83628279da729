// Commands that need no daemon: they become godwit-engine, found beside this program or in PATH.
#pragma once

#include <string_view>

namespace godwit::cli {

bool is_local(std::string_view command);  // dump, restore

// Does not return unless the engine cannot be executed: then an Error is thrown.
[[noreturn]] void exec_engine(int argc, char** argv);

}  // namespace godwit::cli
