// What a process would give back to semaphores of System V when it ends (SEM_UNDO). The kernel shows these values to
// nobody, but fails an operation that would take one out of its range, with ERANGE. So each is moved to either edge of
// its range, by operations after which the semaphore itself is where it was. Nothing of it comes to pass: operations
// of one call are done together or not at all, and the last of them cannot be done.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "agent/engine/tasks/refusals.h"

namespace godwit::engine::tasks {

// As ask_hidden(). A thread that shares the values of the first one is not asked.
void ask_undo_values(Inquiry& ask, pid_t pid, pid_t tid, std::vector<Refusal>& found);

}  // namespace godwit::engine::tasks
