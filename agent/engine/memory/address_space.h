// The address space of a task that is being restored: mappings by injected calls, content from outside.
//
// The task is a skeleton: stopped, its own memory unmapped but for the scratch mapping. Layouts may be applied again
// and again as the source changes; content that lies in kept parts stays. For one thread; every call may throw, after
// which the skeleton is of no use.
#pragma once

#include "agent/engine/memory/layout_delta.h"
#include "agent/engine/memory/page_placer.h"
#include "agent/engine/memory/page_set.h"
#include "agent/engine/memory/restored_segments.h"
#include "agent/engine/numa/policy.h"
#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/base/buffer.h"
#include "common/base/fd.h"
#include "common/pagewire/frame.h"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>
#include <sys/uio.h>

namespace godwit::engine {

// What a file id of a layout stands for.
struct MappedFile {
  std::string path;
  int flags = 0;            // open flags
  std::uint32_t memfd = 0;  // not 0: a memfd, the shmid of its content
};

class AddressSpace {
 public:
  using Inode = std::pair<dev_t, ino_t>;
  // What a child keeps of what it is forked with: mappings, with the pages that are in them, and which files they are
  // of, by id.
  struct Inherited {
    Vmas mappings;
    std::map<std::uint64_t, Inode> files;
  };
  // By a child that is to have `layout`.
  Inherited inherited_by(const Vmas& layout) const;

  // `remote` drives the skeleton and outlives this, as `segments` does; `pidfd` is of the skeleton, borrowed; `scratch`
  // must be free in every layout (move_scratch when it is not).
  AddressSpace(RemoteSyscalls& remote, RemoteAddr scratch, int pidfd, RestoredSegments& segments, Inherited inherited);
  void move_scratch(RemoteAddr scratch) { scratch_ = scratch; }
  // By this pidfd of the skeleton's, which cannot call the maker of segments by its PID.
  void reach_maker_by(int pidfd) { maker_ = pidfd; }

  using FileOf = std::function<MappedFile(std::uint64_t)>;

  // Makes the mappings equal to `vmas` (the kernel's own excepted). `file` resolves the id of a file mapping. Throws
  // with the path when a file cannot be opened; when there is none, only finish() does. Of a file, what its path leads
  // to now is mapped, also where another one was mapped before.
  void apply(const Vmas& vmas, const FileOf& file);

  // Content of the task's own memory (pagewire::ObjectType::task). What lies beyond the end of a mapped file waits
  // until the file is longer: apply() looks, and finish() throws when it still waits.
  void fill(std::span<const pagewire::Run> runs, std::span<const std::byte> data);
  // From now on fill() makes no call in the task: another thread than the tracer's may do it. Much takes longer then.
  void fill_without_calls() { placer_.forgo(); }
  // Whether fill() reads `data` itself, else only the kernel does.
  bool compares() const { return unconfirmed_.size() > 0; }
  void zero(std::span<const pagewire::Run> runs);
  void drop(std::span<const pagewire::Run> runs);
  // The vdso that the task had; it goes to no mapping. Empty when its content has not come.
  const std::string& vdso() const { return vdso_; }

  // Last steps, once the content is whole: guards, advice, names, locks. `last` has the same mappings as the last
  // layout, and all guards: they are found by the scan that comes behind a layout.
  void finish(const Vmas& last);

  const Vmas& layout() const { return layout_; }

 private:
  int segment_here(std::uint64_t shmid);
  void size_segments(const Vmas& vmas);
  using OpenFile = std::pair<std::uint64_t, std::uint32_t>;  // id, how it is opened
  std::map<OpenFile, int> open_files(const Vmas& vmas, const FileOf& file);
  struct Named {
    std::uint64_t id;
    int number;
    std::string path;
  };
  std::map<std::uint64_t, Inode> inodes(const std::vector<Named>& files);
  void note_mapped(const std::map<OpenFile, int>& numbers, const FileOf& file);
  std::set<std::uint64_t> exchanged_files(const Vmas& next, const FileOf& file);
  void map_all(const Vmas& vmas, const std::map<OpenFile, int>& files);
  struct SavedPages {
    image::VmaEntry mapping;
    std::uint64_t start;
    Buffer content;
  };
  std::vector<LayoutDelta::Range> own_pages(const LayoutDelta::Range& range) const;
  void save(const image::VmaEntry& mapping, const LayoutDelta::Range& range, std::vector<SavedPages>& saved);
  std::vector<SavedPages> unmap_outdated(const Vmas& next, const FileOf& file);
  void put_back(const std::vector<SavedPages>& saved);
  void keep_for_later(std::uint64_t address, std::span<const std::byte> pages, int error);
  void write_kept();
  void forget_kept(std::uint64_t start, std::uint64_t end);
  void require_files();
  void unite_mappings();
  void unite(const image::VmaEntry& mapping, const std::vector<LayoutDelta::Range>& pieces);
  void renew(const image::VmaEntry& mapping, const LayoutDelta::Range& part);
  void note_forked();
  std::vector<SavedPages> outgrow_fork(const Vmas& next);
  std::uint64_t confirm(const image::VmaEntry& vma, std::uint64_t address, std::span<const std::byte> data);
  void forget_pages(std::uint64_t start, std::uint64_t end);
  void forget(std::span<const LayoutDelta::Range> unmapped);
  struct Piece {
    std::uint64_t placed, left;  // bytes: one of the two is 0
  };
  Piece place(const image::VmaEntry& vma, std::uint64_t address, std::span<const std::byte> data);
  void write_memory(std::uint64_t address, std::span<const std::byte> data, bool writable);
  ssize_t write_directly(std::span<const iovec> to, std::span<const std::byte> data) const;
  void discard(std::span<const pagewire::Run> runs);
  bool keep_vdso(std::uint64_t address, std::span<const std::byte> page);
  const image::VmaEntry* vma_at(std::uint64_t address) const;
  static bool writable(const image::VmaEntry& e);
  static void copy(std::span<const std::byte> from, std::span<std::byte> to);

  RemoteSyscalls& remote_;
  RemoteAddr scratch_;
  int pidfd_;
  UniqueFd memory_;  // /proc/PID/mem
  UniqueFd pagemap_;
  PagePlacer placer_;
  PageSet placed_;                          // what is there already of private anonymous mappings
  std::vector<LayoutDelta::Range> forked_;  // what the mappings lie in that are from the parent
  PageSet unconfirmed_;  // pages of the parent's in them of which nobody has said yet whether the task has them, too
  Vmas layout_;
  LayoutDelta::Range vdso_range_{};
  std::string vdso_;
  RestoredSegments& segments_;
  int maker_ = -1;                               // a pidfd of it, in the task
  std::map<std::uint64_t, int> numbers_;         // of segments, in the task
  std::map<std::uint64_t, std::string> absent_;  // files that are not there, by id: their mappings are stand-ins
  std::map<std::uint64_t, Inode> mapped_;        // the others, by id: a path may lead to another file by now
  std::map<std::uint64_t, Buffer> kept_;         // pages, by address, that lie beyond the end of their file
  numa::Requirements policies_;
};

}  // namespace godwit::engine
