// Locks and leases of files (resources/file_locks.h) at the destination: every task places its own, since a record lock
// belongs to the process that asks for it.
//
// After the descriptors: a process loses its record locks of a file with any descriptor of that file that it closes.
#pragma once

#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/image/filelock.pb.h"

#include <span>

namespace godwit::engine::placed_locks {

// `locks` are those of the task, whose leader this is. Waits for nobody: Errc::already_exists, with the holder, when
// somebody else has one.
void restore(RemoteSyscalls& remote, RemoteAddr scratch, std::span<const image::FileLockEntry> locks);

}  // namespace godwit::engine::placed_locks
