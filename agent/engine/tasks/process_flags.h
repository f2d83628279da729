// The small settings of a process: personality, dumpable, child subreaper, transparent huge pages, merging of pages,
// writable or executable memory, locks of mappings to come, OOM score, core dump filter, membarrier registrations,
// large registers that it has asked for, autogroup, user of the login.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"
#include "common/image/mm.pb.h"
#include "common/proc/reader.h"

#include <string>
#include <vector>

namespace godwit::engine::tasks::process_flags {

void dump(const proc::Reader& proc, Inquiry& ask, image::TaskCoreEntry& tc, image::MmEntry& mm);

// In the leader, before credentials.
void restore(Batch& batch, const image::TaskCoreEntry& tc, const image::MmEntry& mm);
// When all its mappings are there.
void restore_merging(RemoteSyscalls& remote, RemoteAddr scratch, const image::MmEntry& mm);
// Also that: before limits and credentials, which may not allow it, and leaves the mappings alone.
void restore_future_locks(RemoteSyscalls& remote, const image::MmEntry& mm);
// After everything that maps memory, the scratch memory gone.
void restore_write_or_execute(RemoteSyscalls& remote, const image::MmEntry& mm);
// A notice when it is not granted.
void restore_loginuid(RemoteSyscalls& remote, RemoteAddr scratch, const image::TaskCoreEntry& tc,
                      std::vector<std::string>& notices);
// Credentials reset it, so it comes after them.
void restore_dumpable(Batch& batch, const image::MmEntry& mm);
// From outside. A notice for what needs CAP_SYS_RESOURCE.
std::vector<std::string> restore_outside(pid_t pid, const image::TaskCoreEntry& tc);

}  // namespace godwit::engine::tasks::process_flags
