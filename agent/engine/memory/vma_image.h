// VMAs of a task <-> image::VmaEntry (CRIU's mm image).
#pragma once

#include "agent/engine/resources/file_ids.h"
#include "common/image/mm.pb.h"
#include "common/proc/maps.h"

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <sys/stat.h>
#include <sys/types.h>

namespace godwit::engine {

// VmFlags by extent: smaps costs O(resident pages), 30 ms per GiB, so it is read before the freeze, and only VMAs that
// look the same in maps keep their flags. When one does not, smaps must be read again.
class VmaFlags {
 public:
  void learn(const std::vector<proc::VmaUsage>& usage);
  const proc::VmFlags* find(const proc::Vma& vma) const;  // null: unknown
  bool covers(const std::vector<proc::Vma>& maps) const;

 private:
  std::map<std::uint64_t, std::pair<proc::Vma, proc::VmFlags>> by_start_;
};

struct VmaRefusal {
  std::string reason, hint;
};

// Why this mapping cannot be carried; nothing when it can.
std::optional<VmaRefusal> refuse_vma(const proc::Vma& vma, const proc::VmFlags& flags);

// Made by the kernel itself (vdso, vvar, vsyscall), or of a kind that never has content of its own.
bool kernel_vma(const proc::Vma& vma);
bool is_memfd(const proc::Vma& vma);
bool is_shared_anonymous(const proc::Vma& vma);  // or what has become that
// POSIX shared memory (a semaphore, say) whose name has been removed: as good as anonymous.
bool is_nameless_shm(const proc::Vma& vma);

// The object behind a mapping, through /proc/PID/map_files (needs CAP_CHECKPOINT_RESTORE). Errc::not_found when the
// mapping is gone; of a running process that is to be expected.
UniqueFd open_mapped(pid_t pid, const proc::Vma& vma, int flags);
// The same for memfds and shared anonymous memory, certainly that of `vma`: not of what lies there by now.
UniqueFd open_mapped_memory(pid_t pid, const proc::Vma& vma, int flags, struct stat& st);

class VmaImager {
 public:
  VmaImager(pid_t pid, resources::FileIds& ids) : pid_(pid), ids_(ids) {}

  // Forgets what has been looked at in the round before and is not in this one. `frozen`: in a freeze (FileIds).
  void begin_round(bool frozen) {
    objects_.clear();
    frozen_ = frozen;
  }
  // Finds out what is mapped; once a round, before entry(). Errc::not_found when the task has unmapped it meanwhile.
  void look_at(const proc::Vma& vma, const proc::VmFlags& flags);

  // CRIU's entry for a mapping. File ids and shmids stay the same over the rounds.
  image::VmaEntry entry(const proc::Vma& vma, const proc::VmFlags& flags) const;

 private:
  using Key = resources::FileIds::MappedFile;
  static Key key_of(const proc::Vma& vma, const proc::VmFlags& flags);

  pid_t pid_;
  resources::FileIds& ids_;
  bool frozen_ = false;
  std::map<Key, std::uint32_t> objects_;
};

}  // namespace godwit::engine
