// --action-script: programs that are run at each step, with CRIU's names and environment.
//
//   pre-dump, post-dump                                  dump
//   pre-restore, post-restore, pre-resume, post-resume   restore
//   setup-namespaces, post-setup-namespaces              restore --namespaces
//   status-ready                                         page-server
//
// All of them run, the one that was given last first, whatever becomes of the others: as with CRIU. Its criu ends with
// 255 when one of them fails at post-dump, ours with their exit statuses, or'ed.
//
// CRTOOLS_SCRIPT_ACTION names the step, CRTOOLS_IMAGE_DIR the images directory, CRTOOLS_INIT_PID the process (at the
// two of the namespaces: PID 1 of the new one). The network-lock pair does not come: CRIU runs it for network
// namespaces that it dumps.
#pragma once

#include "common/base/error.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit {

// Errc::cancelled.
class ScriptFailed : public Error {
 public:
  ScriptFailed(const std::string& message, int status) : Error(Errc::cancelled, message), status_(status) {}
  // For the command to end with: the script's, or 128 + the signal that ended it; those of all that failed, or'ed.
  int status() const { return status_; }

 private:
  int status_;
};

// Runs the scripts at a step. Throws ScriptFailed. `pid` 0: there is no process yet.
using RunAction = std::function<void(std::string_view action, pid_t pid)>;

RunAction run_scripts(std::vector<std::string> scripts, std::string images_path);

}  // namespace godwit
