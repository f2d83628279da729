// Which pages of a task's private memory were written since the last look. Two backends are foreseen by the design;
// this is `pagemap_scan`: userfaultfd write-protect async + PAGEMAP_SCAN (6.7+), which needs no soft-dirty kernel.
//
// The userfaultfd is made inside the target by an injected call and taken over with pidfd_getfd; it belongs to the
// target's mm. Losing it (engine death) unregisters everything at 12-79 ms per GiB and costs the target nothing else.
// Rounds need no freeze. The tracker is for private memory only: writes to shared memory through other mappings are
// not seen (shared_memory.h).
#pragma once

#include "agent/engine/memory/page_emitter.h"
#include "agent/engine/memory/page_set.h"
#include "agent/engine/memory/pagemap_scan.h"
#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/base/fd.h"
#include "common/proc/maps.h"

#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace godwit::engine {

// Makes a userfaultfd in the target through `remote` and takes it over. Errc::busy when the target uses one itself,
// Errc::kernel_missing when the kernel has no asynchronous write protection.
UniqueFd inject_userfaultfd(RemoteSyscalls& remote, int pidfd);
// Without write protection: `features` as of UFFDIO_API.
UniqueFd inject_userfaultfd(RemoteSyscalls& remote, int pidfd, std::uint64_t features);

struct ScanCount {
  std::uint64_t new_vmas = 0;  // registered in this scan: all their pages are dirty
  std::uint64_t regions = 0;
  std::uint64_t dirty_pages = 0;

  void add(const ScanCount& other) {
    new_vmas += other.new_vmas;
    regions += other.regions;
    dirty_pages += other.dirty_pages;
  }
};

class Tracker {
 public:
  // `userfaultfd` empty: no tracking, every scan reports everything that is present (plain stop-and-copy).
  // `second`, borrowed, lends a hand in large scans.
  Tracker(pid_t pid, UniqueFd userfaultfd, Worker* second = nullptr);
  void use(UniqueFd userfaultfd) { userfaultfd_ = std::move(userfaultfd); }  // before the first scan

  // Emits what was written since the last scan in the private VMAs of `maps` (read just before), and drops what
  // vanished. `frozen`: nothing in the target runs; only then vanished pages of sparse and file mappings are found, so
  // the last round must be frozen.
  ScanCount scan(const std::vector<proc::Vma>& maps, PageChanges& emitter, const PageSet& sent, bool frozen);

  // Mappings, by their starts, that running scans have found to be new since the last call: others may have been there
  // before.
  std::vector<std::uint64_t> take_new() { return std::exchange(new_, {}); }

  bool tracking() const { return static_cast<bool>(userfaultfd_); }
  // The next scan reports everything.
  void forget() { known_.clear(); }

  // Bytes written by now, without consuming that knowledge.
  std::uint64_t dirty_bytes(const std::vector<proc::Vma>& maps);

  // Of a file, as far as its pages were not written.
  static bool of_file(const proc::Vma& vma) { return kind_of(vma) == Kind::file; }

  int pagemap() const { return pagemap_.get(); }

  // Address ranges with guard markers (MADV_GUARD_INSTALL) seen so far.
  const PageSet& guards() const { return guards_; }

 private:
  struct Known {
    std::uint64_t end = 0;
    bool dense = false;
  };
  enum class Kind { skip, anonymous, file };
  static Kind kind_of(const proc::Vma& vma);
  static std::uint64_t reported(Kind kind);  // page categories that a scan asks for
  struct Range {
    std::uint64_t start = 0, end = 0;
  };
  void register_together(const std::vector<proc::Vma>& maps);
  bool try_register(const Range& range);  // if so, no page of it counts as clean
  bool registered(const proc::Vma& vma);  // registers; false when the kernel will not track it
  bool clear_marks(const Range& range);   // false: it is not registered any more
  void scan_new(const proc::Vma& vma, Kind kind, PageChanges& emitter, ScanCount& count);
  void scan_dense(const proc::Vma& vma, Kind kind, PageChanges& emitter, ScanCount& count);
  void scan_sparse(const proc::Vma& vma, Kind kind, PageChanges& emitter, const PageSet& sent, ScanCount& count,
                   bool frozen);
  void scan_unseen(const proc::Vma& vma, Kind kind, PageChanges& emitter, ScanCount& count);
  void drop_vanished(const proc::Vma& vma, Kind kind, PageChanges& emitter, const PageSet& sent);
  void forget_removed_guards(const proc::Vma& vma);
  void sort_region(const PageRegion& region, Kind kind, PageChanges& emitter, ScanCount& count);

  pid_t pid_;
  UniqueFd userfaultfd_;
  UniqueFd pagemap_;
  PagemapScanner scanner_;
  std::map<std::uint64_t, Known> known_;         // by start
  std::map<std::uint64_t, std::uint64_t> seen_;  // private mappings of the last scan, start -> end
  std::vector<std::uint64_t> new_;
  PageSet guards_;
  Range room_;                       // of the mapping looked at: with the holes on both sides
  std::vector<PageRegion> regions_;  // reused
};

}  // namespace godwit::engine
