// What cannot be carried and only the task itself can tell: keyrings, a local descriptor table, a
// supervisor of its seccomp filters. Asked in the first stop of a process, before anything of it is sent, and again at
// the freeze when that is another one, but for a Landlock domain. When it is the same one, and there are many threads,
// the first of them alone is asked at once, by which nearly all of these are found, and the others together with their
// state: a thousand would stand still for 50 ms longer. What nobody can tell is in docs/engine.md.
#pragma once

#include "agent/engine/ptrace/hold.h"
#include "agent/engine/tasks/inquiry.h"
#include "agent/engine/tasks/refusals.h"
#include "agent/engine/tasks/witnesses.h"

namespace godwit::engine::tasks {

// With witnesses about a Landlock domain, too. `found` gets its refusals when the questions are asked; it must live
// until then.
void ask_hidden(Inquiry& ask, pid_t pid, pid_t tid, const Witnesses* witnesses, std::vector<Refusal>& found);

// Threads of a held process, in batches of their own, about all of that: `some`, all that are_asked_at_once(), else the
// first one.
enum class Asked { some = 1, all };
void refuse_hidden(Hold& hold, const Witnesses& witnesses, Asked asked);
bool are_asked_at_once(const Hold& hold);

}  // namespace godwit::engine::tasks
