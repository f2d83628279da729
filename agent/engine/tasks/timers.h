// Interval timers and POSIX timers: what was left on them goes on at the destination.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"
#include "common/proc/timers.h"

#include <map>
#include <vector>

namespace godwit::engine::tasks::timers {

// Asked of the first thread before any other one is asked anything: what these use of the CPU counts for some timers.
// Who is to be signalled is a host TID until name_threads().
void dump(Inquiry& ask, const std::vector<proc::PosixTimer>& posix, image::TaskTimersEntry& into);

// `guest_tids`: host TID -> TID as the task sees it.
void name_threads(image::TaskTimersEntry& timers, const std::map<pid_t, pid_t>& guest_tids);

// A one-shot timer whose signal is queued already has expired between two looks: it is not to fire again.
void disarm_expired(image::TaskTimersEntry& timers, const image::SignalQueueEntry& queued);

// POSIX timers get their ids back by PR_TIMER_CREATE_RESTORE_IDS (6.15+). In the leader; threads must exist.
void restore(Batch& batch, const image::TaskTimersEntry& from);

}  // namespace godwit::engine::tasks::timers
