// VMAs of a task <-> image::VmaEntry (CRIU's mm image).
#pragma once

#include "agent/engine/resources/file_ids.h"
#include "common/image/mm.pb.h"
#include "common/proc/maps.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace godwit::engine {

// VmFlags by start address and extent: smaps costs O(resident pages), so it is read before the freeze and only VMAs
// that look the same in maps keep their flags; for others it is read again.
class VmaFlags {
 public:
  void learn(const std::vector<proc::VmaUsage>& usage);
  const proc::VmFlags* find(const proc::Vma& vma) const;  // null: unknown, read smaps
  bool covers(const std::vector<proc::Vma>& maps) const;

 private:
  std::map<std::uint64_t, std::pair<proc::Vma, proc::VmFlags>> by_start_;
};

// Why this mapping cannot be carried; nothing when it can.
std::optional<std::string> refuse_vma(const proc::Vma& vma, const proc::VmFlags& flags);

// Whether the mapping is made by the kernel itself (vdso, vvar, vsyscall).
bool kernel_vma(const proc::Vma& vma);

// CRIU's entry for a mapping. `ids` hands out file ids and shmids. For deleted-file and device questions see refuse_vma.
image::VmaEntry to_image(const proc::Vma& vma, const proc::VmFlags& flags, resources::FileIds& ids, pid_t pid);

}  // namespace godwit::engine
