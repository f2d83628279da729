// What an address space knows about itself beside its mappings: where code, data, heap, arguments and environment lie,
// the auxiliary vector, the executable; and the vdso, whose code the process may have pointers into.
#pragma once

#include "agent/engine/resources/file_ids.h"
#include "agent/engine/tasks/inquiry.h"
#include "common/image/mm.pb.h"
#include "common/proc/maps.h"
#include "common/proc/reader.h"

#include <string>
#include <vector>

namespace godwit::engine::tasks::bounds {

void dump(const proc::Reader& proc, const proc::Stat& stat, resources::FileIds& ids, Inquiry& ask,
          image::MmEntry& into);

// PR_SET_MM_MAP: works without CAP_SYS_RESOURCE, where the calls for one field each do not. Before the credentials. The
// mappings must be there. `exe` is a descriptor in the task.
void restore(Batch& batch, const image::MmEntry& from, int exe);

// The kernel's own areas, vdso and vvar. One for all address spaces of a restore: what the first one has shown is not
// asked of the others.
class KernelAreas {
 public:
  // Maps them where the image has them; they must be unmapped.
  static void restore(Batch& batch, const image::MmEntry& from);
  // Afterwards: they are the ones that the process knows. `functions`: the vdso's as the process had it (vdso_symbols),
  // or nothing. Errc::unsupported when this kernel's differ.
  void check(const RemoteSyscalls& remote, const image::MmEntry& from, const std::string& functions);

 private:
  std::string vdso_;       // this kernel's, once it was where it belongs
  std::string functions_;  // in it
};

}  // namespace godwit::engine::tasks::bounds
