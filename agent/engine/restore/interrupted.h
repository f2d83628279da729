// Calls that were asleep with a relative timeout at the dump: their restart block is made anew.
//
// The thread runs the same call with what is left of the timeout, from scratch memory, and is interrupted once it
// sleeps: that leaves a genuine restart block in the kernel. With the original registers on top of it the kernel goes
// on with the sleep, as it would have at the source; the program sees no EINTR.
#pragma once

#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/image/core.pb.h"

namespace godwit::engine::interrupted {

// Returns the number of the call that sleeps on; -1 for a thread that was not in such a call, or whose call turns out
// to be over at once. `regs` is what the thread will go on with: changed in the latter case.
long rearm(RemoteSyscalls& remote, RemoteAddr scratch, const image::ThreadCoreEntry& thread, Regs& regs);

}  // namespace godwit::engine::interrupted
