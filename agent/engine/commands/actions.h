// --action-script: programs that are run at each step, with CRIU's names and environment.
//
//   pre-dump, post-dump                                  dump
//   pre-restore, post-restore, pre-resume, post-resume   restore
//   setup-namespaces, post-setup-namespaces              restore --namespaces
//
// CRTOOLS_SCRIPT_ACTION names the step, CRTOOLS_IMAGE_DIR the images directory, CRTOOLS_INIT_PID the process. The
// network-lock pair does not come: CRIU runs it for network namespaces that it dumps.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::commands {

// Runs the scripts at a step. Throws when one fails. `pid` 0: there is no process yet.
using RunAction = std::function<void(std::string_view action, pid_t pid)>;

RunAction run_scripts(std::vector<std::string> scripts, std::string images_path);

}  // namespace godwit::engine::commands
