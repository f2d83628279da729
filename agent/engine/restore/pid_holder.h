// Who has a PID or TID that a restored task needs: for the error, so it may be slow.
#pragma once

#include <string>

#include <sys/types.h>

namespace godwit::engine {

// "process 12 (sleep)", "thread 13 of process 12 (java)", "the session of process 12 (cron)": host PIDs. `wanted` is a
// number in the PID namespace of process `member`.
std::string pid_holder(pid_t wanted, pid_t member);

// As this process knows it. Errc::target_gone when it has ended.
pid_t pid_of_pidfd(int pidfd);

}  // namespace godwit::engine
