// What all commands do around their work: the log, the status descriptor, files of the work directory.
#pragma once

#include "agent/engine/commands/places.h"

#include <functional>
#include <string>
#include <string_view>

namespace godwit::engine::commands {

// --log-file and -v. What is written to standard error from here on goes into the log. Returns the standard error that
// there was before; empty when it stays the log.
UniqueFd begin_log(const Options& options);
// Why a command failed: into the log, and to `before` too when that is not empty.
void log_failure(const Error& error, const UniqueFd& before);
void set_verbosity(const Options& options);  // -v alone

// --status-fd: a zero byte, then closed. Whether that can be done is found out before anything is touched:
// Errc::invalid_argument.
void check_status(const Options& options);
void say_ready(const Options& options);

// What is left when the work is done and cannot be undone: a failure is a warning, which says that `done` ("the dump is
// complete").
void afterwards(std::string_view done, const std::function<void()>& act);

// A file with a path relative to the work directory, made when it is not there; until it is written anew it has what it
// had.
UniqueFd open_beside(const Places& places, const std::string& path);
void write_anew(const UniqueFd& file, std::string_view text);
void write_beside(const Places& places, const std::string& path, std::string_view text);

}  // namespace godwit::engine::commands
