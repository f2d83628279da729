#include "agent/engine/memory/pagemap_scan.h"

#include "common/base/check.h"

#include <sys/ioctl.h>

namespace godwit::engine {
namespace {

// struct pm_scan_arg of include/uapi/linux/fs.h, 6.7+.
struct ScanArgument {
  std::uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  std::uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
constexpr unsigned long pagemap_scan_request = _IOWR('f', 16, ScanArgument);
constexpr std::uint64_t wp_matching = 1 << 0;
constexpr std::uint64_t check_wpasync = 1 << 1;
constexpr std::uint64_t reported = page_written | page_file | page_present | page_swapped | page_pfnzero | page_guard;
constexpr std::size_t regions_per_call = 16384;

}  // namespace

PagemapScanner::PagemapScanner(int pagemap_fd) : pagemap_(pagemap_fd), buffer_(regions_per_call) {}

bool PagemapScanner::scan(const ScanRequest& request, std::vector<PageRegion>& out) {
  std::uint64_t at = request.start;
  while (at < request.end) {
    ScanArgument arg{};
    arg.size = sizeof arg;
    arg.flags = request.protect ? wp_matching | check_wpasync : 0;
    arg.start = at;
    arg.end = request.end;
    arg.vec = reinterpret_cast<std::uint64_t>(buffer_.data());
    arg.vec_len = buffer_.size();
    arg.category_mask = request.all_of;
    arg.category_anyof_mask = request.any_of;
    arg.return_mask = (request.report == ~0ull ? reported : request.report) & known_;
    const int n = ::ioctl(pagemap_, pagemap_scan_request, &arg);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPERM && request.protect) return false;
    if (n < 0 && errno == EINVAL && (known_ & page_guard)) {  // before 6.15 there are no guard pages to report
      known_ &= ~std::uint64_t{page_guard};
      continue;
    }
    check(n, "scan pages {:#x}-{:#x}", at, request.end);
    out.insert(out.end(), buffer_.begin(), buffer_.begin() + n);
    if (arg.walk_end <= at) break;
    at = arg.walk_end;
  }
  return true;
}

}  // namespace godwit::engine
