// The address space of a task that is being restored: mappings by injected calls, content by process_vm_writev.
//
// The task is a skeleton (restore/skeleton.h): stopped, its own memory unmapped but for the scratch mapping. Layouts may be
// applied again and again as the source changes; content that lies in kept parts stays.
#pragma once

#include "agent/engine/memory/layout_delta.h"
#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/base/fd.h"
#include "common/pagewire/frame.h"

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

namespace godwit::engine {

struct MappedFile {
  std::string path;
  std::uint32_t flags = 0;  // open flags of the image
};

class AddressSpace {
 public:
  // `pidfd` and `mem` (/proc/PID/mem, read-write) are of the skeleton.
  AddressSpace(pid_t pid, int pidfd);

  // Makes the mappings equal to `vmas` (kernel VMAs excepted). `file` resolves the file id of a file mapping.
  // Throws with the path when a file cannot be opened. The scratch range of `remote` must be free in `vmas`.
  void apply(RemoteSyscalls& remote, RemoteAddr scratch, const Vmas& vmas,
             const std::function<MappedFile(std::uint64_t)>& file);

  // Content of the task's own memory (ObjectType::task).
  void fill(std::span<const pagewire::Run> runs, std::span<const std::byte> data);
  void zero(std::span<const pagewire::Run> runs);
  // Queued and run by the next flush_drops or apply: needs an injected call.
  void drop(std::span<const pagewire::Run> runs);
  void flush_drops(RemoteSyscalls& remote, RemoteAddr scratch);

  // Shared memory: segments are created in the task on first need; sized by the largest mapping or write.
  void fill_segment(RemoteSyscalls& remote, RemoteAddr scratch, std::uint64_t shmid, std::span<const pagewire::Run> runs,
                    std::span<const std::byte> data);
  void clear_segment(std::uint64_t shmid, std::span<const pagewire::Run> runs);  // zero and drop
  // shmid -> number of the segment's descriptor in the task's table, for the descriptors' restore. Closed there in the end.
  std::map<std::uint32_t, int> segments() const;
  // Says that a segment is a memfd of this name; before its first use.
  void declare_memfd(std::uint64_t shmid, std::string name, std::uint64_t size, std::uint32_t create_flags);

  // Last steps, once the content is whole: madvise flags, names, locks, guard markers, seals.
  void finish(RemoteSyscalls& remote, RemoteAddr scratch);

  const Vmas& layout() const { return layout_; }

 private:
  struct Segment {
    UniqueFd fd;      // ours
    int number = -1;  // in the task
    std::uint64_t size = 0;
    std::string memfd_name;  // empty: anonymous shared memory
    std::uint32_t create_flags = 0;
  };
  Segment& segment(RemoteSyscalls& remote, RemoteAddr scratch, std::uint64_t shmid, std::uint64_t size);
  const image::VmaEntry* vma_at(std::uint64_t address) const;

  pid_t pid_;
  int pidfd_;
  UniqueFd mem_;
  Vmas layout_;
  std::map<std::uint64_t, Segment> segments_;
  std::vector<pagewire::Run> drops_;
};

}  // namespace godwit::engine
