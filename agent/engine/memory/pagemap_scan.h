// PAGEMAP_SCAN (6.7+): which pages of a range are in which state, and, in the same step, write-protect them again.
//
// Facts, all measured (docs/engine.md): a range must lie within one VMA when protecting, else EPERM comes after
// the first VMA has been re-protected and its dirty state is lost; CHECK_WPASYNC always, else an unregistered VMA
// looks clean.
#pragma once

#include "common/base/worker.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace godwit::engine {

// Bits of page_region.categories. Not in the C library's headers of Debian 12.
enum PageCategory : std::uint64_t {
  page_wpallowed = 1 << 0,
  page_written = 1 << 1,  // not write-protected by userfaultfd since the last scan
  page_file = 1 << 2,     // file-backed, or shared anonymous; a private page that was copied on write is not
  page_present = 1 << 3,
  page_swapped = 1 << 4,  // swapped out, or a marker in a hole
  page_pfnzero = 1 << 5,
  page_huge = 1 << 6,
  page_soft_dirty = 1 << 7,
  page_guard = 1 << 8,  // 6.15+: MADV_GUARD_INSTALL
};

struct PageRegion {
  std::uint64_t start = 0, end = 0, categories = 0;
};

struct ScanRequest {
  std::uint64_t start = 0, end = 0;
  bool protect = false;          // PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC
  std::uint64_t all_of = 0;      // category_mask
  std::uint64_t any_of = 0;      // category_anyof_mask
  std::uint64_t none_of = 0;     // category_inverted
  std::uint64_t report = ~0ull;  // return_mask; all known categories when ~0
};

// One scanner per thread of control: owns reused result buffers.
class PagemapScanner {
 public:
  // `pagemap_fd` (/proc/PID/pagemap) and `second` are borrowed. A large range is scanned in two halves, one of them by
  // `second`: the kernel holds the address space for reading only, so two CPUs need half the time.
  explicit PagemapScanner(int pagemap_fd, Worker* second = nullptr);

  // Appends the matching regions. False when the range is not (wholly) registered for asynchronous write protection;
  // then what was returned is incomplete and the range's dirty state is lost.
  bool scan(const ScanRequest& request, std::vector<PageRegion>& out);

 private:
  struct Half {
    std::vector<PageRegion> buffer, found;
    std::uint64_t known = ~0ull;  // categories that this kernel can report
  };
  bool scan(const ScanRequest& request, Half& half, std::vector<PageRegion>& out) const;

  int pagemap_;
  Worker* second_;
  Half lower_, upper_;
};

}  // namespace godwit::engine
