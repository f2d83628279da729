// An interrupted system call as CRIU writes it down, and as the kernel had it.
//
// Registers in an image are such that a plain return to user mode goes on correctly, since that is what CRIU's restore
// does: a thread that the kernel would send back to its call stands in front of it, one whose call needs a restart
// block has EINTR. Our own restore lets the kernel do it and needs the call's real result, which is a field of ours; an
// image without it (CRIU's, or one that its tools have rewritten) goes on as CRIU would have it.
#pragma once

#include "agent/engine/ptrace/stop.h"
#include "common/image/core.pb.h"

namespace godwit::engine::tasks::call_restart {

// `regs` as read from the stopped thread; returns them as the image has them.
Regs dump(const Regs& regs, image::ThreadCoreEntry& into);
Regs restore(const Regs& regs, const image::ThreadCoreEntry& from);

}  // namespace godwit::engine::tasks::call_restart
