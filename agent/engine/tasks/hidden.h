// What cannot be carried and only the task itself can tell: keyrings, a local descriptor table, a
// supervisor of its seccomp filters. Asked in the first stop of a process, before anything of it is sent, and again at
// the freeze when that is another one, but for a Landlock domain. When it is the same one, its first thread alone is
// asked at once, which has what nearly all of these are found by, and the others together with their state: a thousand
// threads would stand still for 50 ms longer. What nobody can tell is in docs/engine.md.
#pragma once

#include "agent/engine/ptrace/hold.h"
#include "agent/engine/tasks/inquiry.h"
#include "agent/engine/tasks/refusals.h"
#include "agent/engine/tasks/witnesses.h"

namespace godwit::engine::tasks {

// `found` gets its refusals when the questions are asked; it must live until then.
void ask_hidden(Inquiry& ask, pid_t pid, pid_t tid, std::vector<Refusal>& found);
// And about a Landlock domain.
void ask_hidden(Inquiry& ask, pid_t pid, pid_t tid, const Witnesses& witnesses, std::vector<Refusal>& found);

// Threads of a held process, in batches of their own, about all of that.
enum class Asked { first_thread = 1, all_threads };
void refuse_hidden(Hold& hold, const Witnesses& witnesses, Asked asked);

}  // namespace godwit::engine::tasks
