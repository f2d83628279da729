// What an address space knows about itself beside its mappings: where code, data, heap, arguments and environment lie,
// the auxiliary vector, the executable; and the vdso, whose code the process may have pointers into.
#pragma once

#include "agent/engine/resources/file_ids.h"
#include "agent/engine/tasks/inquiry.h"
#include "common/image/mm.pb.h"
#include "common/proc/maps.h"
#include "common/proc/reader.h"

#include <vector>

namespace godwit::engine::tasks::bounds {

void dump(const proc::Reader& proc, const proc::Stat& stat, resources::FileIds& ids, Inquiry& ask,
          image::MmEntry& into);

// PR_SET_MM_MAP: works without CAP_SYS_RESOURCE, where the calls for one field each do not. Before the credentials. The
// mappings must be there. `exe` is a descriptor in the task.
void restore(Batch& batch, const image::MmEntry& from, int exe);

// A digest of the vdso's symbols and where they are. Errc::internal when it cannot be read.
std::uint64_t vdso_symbols(pid_t pid, RemoteAddr start, RemoteAddr end);

// Maps the kernel's own areas where the image has them and checks that they are the ones the process knows; they must
// be unmapped. Errc::unsupported when this kernel's differ.
void restore_vdso(RemoteSyscalls& remote, RemoteAddr scratch, const image::MmEntry& from);

}  // namespace godwit::engine::tasks::bounds
