// A restore that waits stands between a shell and the job that it has restored: what the shell does with this command,
// it does with the job, and the other way round.
#pragma once

#include "agent/engine/restore/callers_terminal.h"

#include <sys/types.h>

namespace godwit::engine::commands {

// From when the job runs in the foreground the signals of the keyboard are for it. Where it is in our group, they come
// to us as well.
void leave_keyboard_to_job();

// Waits for `root`, a child of ours. When it stops (Ctrl-Z) our process group stops, too, so that the shell takes the
// terminal; when that is continued (`fg`, `bg`), so is the job. `front` is its process group in the foreground, `group`
// that of `root`. Returns the exit status, 128 + signal when one ended it.
int wait_as_job(pid_t root, pid_t group, pid_t front, CallersTerminal& terminal);

}  // namespace godwit::engine::commands
