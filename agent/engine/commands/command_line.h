// What all commands do around their work: the log, the status descriptor, files of the work directory.
#pragma once

#include "agent/engine/commands/places.h"

#include <string>
#include <string_view>

namespace godwit::engine::commands {

// --log-file and -v. What is written to standard error from here on goes into the log. Returns the standard error that
// there was before; empty when it stays the log.
UniqueFd begin_log(const Options& options);
// Why a command failed: into the log, and to `before` too when that is not empty.
void log_failure(const Error& error, const UniqueFd& before);
void set_verbosity(const Options& options);  // -v alone

// --status-fd: a zero byte, then closed.
void say_ready(const Options& options);

// A file with a path relative to the work directory.
void write_beside(const Places& places, const std::string& path, std::string_view text);

}  // namespace godwit::engine::commands
