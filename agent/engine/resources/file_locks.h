// Locks and leases of files: filelocks.img. They are placed again by the tasks themselves (restore/placed_locks.h).
//
// A record lock belongs to a process and a file; a flock, a lock of an open file description and a lease belong to an
// open file, whoever has it open, and are written down once. Who waits for a lock is in an interrupted system call,
// which is made again.
#pragma once

#include "agent/engine/resources/fd_kind.h"
#include "agent/engine/resources/fd_walk.h"

#include <optional>
#include <span>
#include <vector>

namespace godwit::engine::resources::file_locks {

// Why a lock of this descriptor's file cannot be carried. Notes in the context what only one copy may hold.
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);

// All locks of a tree. `walks` are its tasks' descriptors, which `ids` has seen. Errc::busy while a lease is being
// broken.
void dump(std::span<const StoppedTask> tasks, std::span<const FdWalk> walks, FileIds& ids, image::ImageSet& out);

}  // namespace godwit::engine::resources::file_locks
