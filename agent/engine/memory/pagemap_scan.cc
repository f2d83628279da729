#include "agent/engine/memory/pagemap_scan.h"

#include "common/base/check.h"

#include <algorithm>

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
constexpr std::size_t regions_at_first = 512, regions_per_call = 16384;  // most scans find few
constexpr std::uint64_t worth_two = 128u << 20;   // 0.25 ms of scanning; waking a thread takes a fifth of that
constexpr std::uint64_t table_covers = 2u << 20;  // no table of pages, and no huge page, is looked at from both sides

}  // namespace

PagemapScanner::PagemapScanner(int pagemap_fd, Worker* second) : pagemap_(pagemap_fd), second_(second) {}

bool PagemapScanner::scan(const ScanRequest& request, std::vector<PageRegion>& out) {
  if (!second_ || request.end - request.start < worth_two) return scan(request, lower_, out);
  ScanRequest lower = request, upper = request;
  lower.end = upper.start = (request.start + (request.end - request.start) / 2) & ~(table_covers - 1);
  upper_.found.clear();
  auto other = second_->run([&] { return scan(upper, upper_, upper_.found); });
  bool tracked = false;
  try {
    tracked = scan(lower, lower_, out);
  } catch (...) {
    other.wait();
    throw;
  }
  tracked = other.get() && tracked;
  out.insert(out.end(), upper_.found.begin(), upper_.found.end());
  return tracked;
}

bool PagemapScanner::scan(const ScanRequest& request, Half& half, std::vector<PageRegion>& out) const {
  if (half.buffer.empty()) half.buffer.resize(regions_at_first);
  std::uint64_t at = request.start;
  while (at < request.end) {
    ScanArgument arg{};
    arg.size = sizeof arg;
    arg.flags = request.protect ? wp_matching | check_wpasync : 0;
    arg.start = at;
    arg.end = request.end;
    arg.vec = reinterpret_cast<std::uint64_t>(half.buffer.data());
    arg.vec_len = half.buffer.size();
    arg.category_inverted = request.none_of;
    arg.category_mask = request.all_of | request.none_of;
    arg.category_anyof_mask = request.any_of;
    arg.return_mask = (request.report == ~0ull ? reported : request.report) & half.known;
    const int n = ::ioctl(pagemap_, pagemap_scan_request, &arg);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPERM && request.protect) return false;
    if (n < 0 && errno == EINVAL && (half.known & page_guard)) {  // before 6.15 there are no guard pages to report
      half.known &= ~std::uint64_t{page_guard};
      continue;
    }
    check(n, "scan pages {:#x}-{:#x}", at, request.end);
    out.insert(out.end(), half.buffer.begin(), half.buffer.begin() + n);
    // walk_end is told where the walk ended early. In one that did not, it is where the kernel last emptied its own
    // buffer of 512 regions, and what lies behind would be reported twice (6.7 to 6.18).
    if (static_cast<std::size_t>(n) < half.buffer.size()) break;
    at = std::max(arg.walk_end, half.buffer.back().end);
    half.buffer.resize(regions_per_call);
  }
  return true;
}

}  // namespace godwit::engine
