// What each command of `godwit` does. Returns the exit code; Errors are for main() to print.
#pragma once

#include "coordinator/cli/client.h"
#include "coordinator/cli/options.h"

namespace godwit::cli {

int run(const Options& options);

// The exit code for a migration's outcome by name, and for an Error of the API.
int exit_code_of(const std::string& outcome);
int exit_code_of(const Error& error);

}  // namespace godwit::cli
