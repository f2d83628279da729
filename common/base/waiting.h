// Waiting, by a thread that has nothing else to do: for a child, for a descriptor.
#pragma once

#include "common/base/units.h"

#include <string_view>

#include <sys/types.h>

namespace godwit {

// Until this child has ended: the status of wait(2).
int wait_for_child(pid_t child);

// What a shell makes of a status of wait(2): 128 and the signal of who was killed by one.
int shell_status(int status);

// Until `events` of poll(2), or a hang-up, are there on `fd`. `what` is for the message: "wait for a client".
// Errc::timed_out.
void wait_ready(int fd, short events, Clock::time_point deadline, std::string_view what);

}  // namespace godwit
