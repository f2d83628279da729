// What a process would give back to semaphores of System V when it ends (SEM_UNDO). The kernel shows these values to
// nobody, but fails an operation that would take one out of its range, with ERANGE. So each is moved to either edge of
// its range, by operations after which the semaphore itself is where it was. Nothing of it comes to pass: operations
// of one call are done together or not at all, and the last of them cannot be done.
#pragma once

#include "agent/engine/ptrace/hold.h"

namespace godwit::engine::tasks {

// All threads of a held process are asked; one that shares the values of the first one is not. They come and go with
// every lock that is taken, so the caller says which code the error has when there is one. Uses the scratch memory.
void refuse_undo_values(Hold& hold, Errc when_found);

}  // namespace godwit::engine::tasks
