// System V IPC objects and POSIX message queues belong to an IPC namespace, not to a process. So: in a namespace of the
// workload's own, which a move leaves behind, every object is one that would be lost; in one shared with this host,
// those that a process of it made or was the last to use.
#pragma once

#include "agent/engine/tasks/refusals.h"

namespace godwit::engine::tasks {

// The lines of a file of /proc/sysvipc as numbers, without its head: at least seven each. Errc::internal.
std::vector<std::vector<long>> parse_ipc_table(const std::string& text);

// Of this process's namespace: `name` is sem, shm or msg. Empty where the kernel has no System V IPC.
std::vector<std::vector<long>> ipc_table(const char* name);

// Reads only; visits each of their namespaces for a moment.
std::vector<Refusal> refuse_ipc_objects(const std::vector<pid_t>& pids);

// Which object of System V the call waits for, from /proc/PID/syscall.
std::optional<std::string> awaited_ipc_object(const std::string& text);

// What threads of the process wait for, if that is this host's: after a move it is whatever has the same number there.
std::vector<std::string> notices_of_ipc(const proc::Reader& proc, pid_t pid);

}  // namespace godwit::engine::tasks
