#include "agent/engine/memory/tracker.h"

#include "agent/engine/memory/aio_ring.h"
#include "agent/engine/memory/vma_image.h"
#include "common/base/check.h"

#include <linux/userfaultfd.h>

#include <algorithm>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

// Not in Debian 12's headers.
constexpr std::uint64_t feature_wp_hugetlbfs_shmem = 1 << 12;
constexpr std::uint64_t feature_wp_unpopulated = 1 << 13;  // 6.4+
constexpr std::uint64_t feature_wp_async = 1 << 15;        // 6.7+
constexpr int user_mode_only = 1;

// Scanning a VMA the dense way leaves a marker in every hole: 8 bytes of page table per page. Fine for VMAs that are
// small or mostly there; never for the terabytes that sanitizers and garbage collectors reserve.
constexpr std::uint64_t always_dense = 64u << 20;
constexpr std::uint64_t dense_fraction = 8;

constexpr std::uint64_t there = page_present | page_swapped;
// Whether a page is a file's, the kernel only knows by looking at the page itself, which takes ten times as long (27 ms
// per GiB) as looking at the page table.
constexpr std::uint64_t without_file = page_written | page_present | page_swapped | page_pfnzero | page_guard;

}  // namespace

UniqueFd inject_userfaultfd(RemoteSyscalls& remote, int pidfd) {
  return inject_userfaultfd(remote, pidfd, feature_wp_async | feature_wp_unpopulated | feature_wp_hugetlbfs_shmem);
}

UniqueFd inject_userfaultfd(RemoteSyscalls& remote, int pidfd, std::uint64_t features) {
  // USER_MODE_ONLY is allowed to unprivileged targets even with vm.unprivileged_userfaultfd=0.
  const long number = remote.attempt(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | user_mode_only);
  if (number == -ENOSYS) fail(Errc::kernel_missing, "this kernel has no userfaultfd");
  check_raw(number, "create a userfaultfd in process {}", remote.pid());
  UniqueFd ours(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, static_cast<int>(number), 0)));
  const int error = errno;
  remote.call("close the userfaultfd", SYS_close, number);
  if (!ours) throw syscall_error(error, fmt::format("take over the userfaultfd of process {}", remote.pid()));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  if (::ioctl(ours.get(), UFFDIO_API, &api) < 0)
    fail(Errc::kernel_missing, "this kernel has no asynchronous write protection (6.7 or later is needed)");
  return ours;
}

Tracker::Tracker(pid_t pid, UniqueFd userfaultfd, Worker* second)
    : pid_(pid),
      userfaultfd_(std::move(userfaultfd)),
      pagemap_(open_file(fmt::format("/proc/{}/pagemap", pid), O_RDONLY)),
      scanner_(pagemap_.get(), second) {}

Tracker::Kind Tracker::kind_of(const proc::Vma& vma) {
  if (vma.shared || kernel_vma(vma)) return Kind::skip;
  // /dev/zero mapped privately is anonymous memory with a name.
  return vma.kind == proc::VmaName::path && vma.name != "/dev/zero" ? Kind::file : Kind::anonymous;
}

std::uint64_t Tracker::reported(Kind kind) { return kind == Kind::file ? ~0ull : without_file; }

// Registering a part of a mapping makes two mappings of it, and mremap of the whole then fails with EFAULT. A running
// task may have grown a mapping since maps were read, so the holes around it are registered with it.
bool Tracker::try_register(const Range& range) {
  uffdio_register request{};
  request.range = {range.start, range.end - range.start};
  request.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &request) == 0) return clear_marks(range);
  // Two trackers of one mapping would take each other's dirty pages away.
  if (errno == EBUSY) fail(Errc::busy, "process {} is being tracked by somebody else", pid_);
  return false;
}

// What is registered may have marks of before. mremap next to a tracked mapping can merge the two, and the kernel then
// takes the tracker from the whole of it but the marks only from the pages that moved. A page of the other part is made
// writable by its next write and keeps its mark: no later write to it would ever be reported. Marks are looked for
// first (0.6 ms per GiB), since to take them away where there are none takes 12.
bool Tracker::clear_marks(const Range& range) {
  std::vector<PageRegion> marked;
  scanner_.scan(
      {.start = range.start, .end = range.end, .any_of = there, .none_of = page_written, .report = page_present},
      marked);
  if (marked.empty()) return true;
  uffdio_writeprotect request{};
  request.range = {marked.front().start, marked.back().end - marked.front().start};
  int result = 0;
  while ((result = ::ioctl(userfaultfd_.get(), UFFDIO_WRITEPROTECT, &request)) != 0 && errno == EAGAIN) continue;
  if (result == 0) return true;
  // Something that is not registered has come to be in the middle, and what lies behind it has its marks still. They go
  // with the registration.
  uffdio_range all{range.start, range.end - range.start};
  ::ioctl(userfaultfd_.get(), UFFDIO_UNREGISTER, &all);
  return false;
}

bool Tracker::registered(const proc::Vma& vma) {
  return userfaultfd_ && (try_register(room_) || try_register({vma.start, vma.end}));
}

// All that lies between two mappings that are not tracked, at once: mappings beside each other may become one
// meanwhile.
void Tracker::register_together(const std::vector<proc::Vma>& maps) {
  Range together;
  bool any = false;
  for (const proc::Vma& vma : maps) {
    if (kind_of(vma) != Kind::skip) {
      any = true;
      together.end = vma.end;
      continue;
    }
    together.end = vma.start;
    if (any) try_register(together);  // what the kernel does not take as a whole is registered one by one
    together = {vma.end, vma.end};
    any = false;
  }
  if (any) try_register(together);
}

void Tracker::sort_region(const PageRegion& region, Kind kind, PageChanges& emitter, ScanCount& count) {
  count.regions++;
  const std::uint64_t c = region.categories;
  const bool clean_file = kind == Kind::file && (c & page_file);
  const bool hole = !(c & there) || (c & page_pfnzero);
  if (c & page_guard)
    guards_.add(region.start, region.end);
  else
    guards_.remove(region.start, region.end);
  // Markers look swapped; the zero page, a clean file page and a hole read the same here and there once dropped.
  if (clean_file || hole || (c & page_guard)) {
    emitter.drop(region.start, region.end);
    return;
  }
  count.dirty_pages += (region.end - region.start) / page_size;
  emitter.add(region.start, region.end, kind == Kind::file);
}

void Tracker::scan_new(const proc::Vma& vma, Kind kind, PageChanges& emitter, ScanCount& count) {
  count.new_vmas++;
  if (!seen_.empty()) new_.push_back(vma.start);  // else it is the first scan
  guards_.remove(vma.start, vma.end);
  const bool tracked = registered(vma);
  std::vector<PageRegion> present;
  // What the receiver has of earlier mappings here is worth nothing.
  if (tracked) {
    // Protect first, look after: a write between the two is reported by the next scan.
    std::vector<PageRegion> ignored;
    scanner_.scan({.start = vma.start,
                   .end = vma.end,
                   .protect = true,
                   .all_of = page_written,
                   .any_of = there,
                   .report = page_written},
                  ignored);
  }
  scanner_.scan({.start = vma.start, .end = vma.end, .any_of = there, .report = reported(kind)}, present);
  std::uint64_t pages = 0, at = vma.start;
  for (const PageRegion& r : present) {
    emitter.drop(at, r.start);
    sort_region(r, kind, emitter, count);
    pages += (r.end - r.start) / page_size;
    at = r.end;
  }
  emitter.drop(at, vma.end);
  const bool dense =
      kind == Kind::anonymous && (vma.size() <= always_dense || pages * page_size * dense_fraction >= vma.size());
  known_[vma.start] = {vma.end, dense};
}

void Tracker::scan_dense(const proc::Vma& vma, Kind kind, PageChanges& emitter, ScanCount& count) {
  regions_.clear();
  // Written and not there: vanished, or never touched; dropped where the receiver has it.
  if (!scanner_.scan(
          {.start = vma.start, .end = vma.end, .protect = true, .all_of = page_written, .report = reported(kind)},
          regions_))
    return scan_new(vma, kind, emitter, count);
  for (const PageRegion& r : regions_) sort_region(r, kind, emitter, count);
}

void Tracker::scan_sparse(const proc::Vma& vma, Kind kind, PageChanges& emitter, const PageSet& sent, ScanCount& count,
                          bool frozen) {
  regions_.clear();
  if (!scanner_.scan({.start = vma.start,
                      .end = vma.end,
                      .protect = true,
                      .all_of = page_written,
                      .any_of = there,
                      .report = reported(kind)},
                     regions_))
    return scan_new(vma, kind, emitter, count);
  for (const PageRegion& r : regions_) sort_region(r, kind, emitter, count);
  if (!frozen) return;
  if (sent.intersects(vma.start, vma.end)) drop_vanished(vma, kind, emitter, sent);
  if (guards_.intersects(vma.start, vma.end)) forget_removed_guards(vma);
}

// A guard that is removed leaves a hole, which a sparse scan does not report.
void Tracker::forget_removed_guards(const proc::Vma& vma) {
  std::vector<PageRegion> present;
  scanner_.scan({.start = vma.start, .end = vma.end, .any_of = page_guard, .report = page_guard}, present);
  guards_.remove(vma.start, vma.end);
  for (const PageRegion& r : present) guards_.add(r.start, r.end);
}

// MADV_DONTNEED leaves no trace that a sparse or file scan would report: compare what is there with what was sent. In a
// file mapping it leaves a marker, which looks like a page that is swapped out: such pages are sent again, by reading
// them.
void Tracker::drop_vanished(const proc::Vma& vma, Kind kind, PageChanges& emitter, const PageSet& sent) {
  emitter.flush();  // frames are ascending; these pages lie among those just added
  std::vector<PageRegion> present;
  scanner_.scan({.start = vma.start, .end = vma.end, .any_of = there, .report = reported(kind)}, present);
  std::uint64_t at = vma.start;
  for (const PageRegion& r : present) {
    const bool ours =
        !(r.categories & (page_pfnzero | page_guard)) && !(kind == Kind::file && (r.categories & page_file));
    if (!ours) continue;
    emitter.drop(at, r.start);
    at = r.end;
    if (kind != Kind::file || (r.categories & page_present)) continue;
    for (const pagewire::Run& run : sent.runs(r.start, r.end))
      emitter.add(run.address, run.address + run.pages * page_size, true);
  }
  emitter.drop(at, vma.end);
}

// Ranges that the last scan did not see (a mapping that grew, or that a torn read of maps left out): whatever is there
// may be unknown to the receiver although nobody wrote it since.
void Tracker::scan_unseen(const proc::Vma& vma, Kind kind, PageChanges& emitter, ScanCount& count) {
  std::uint64_t at = vma.start;
  const auto all_there = [&](std::uint64_t start, std::uint64_t end) {
    if (start >= end) return;
    emitter.flush();  // frames are ascending; these pages lie among those just added
    std::vector<PageRegion> present;
    scanner_.scan({.start = start, .end = end, .any_of = there, .report = reported(kind)}, present);
    for (const PageRegion& r : present) sort_region(r, kind, emitter, count);
  };
  auto seen = seen_.upper_bound(vma.start);
  if (seen != seen_.begin()) --seen;
  for (; seen != seen_.end() && seen->first < vma.end; ++seen) {
    all_there(at, std::min(seen->first, vma.end));
    at = std::max(at, seen->second);
  }
  all_there(at, vma.end);
}

ScanCount Tracker::scan(const std::vector<proc::Vma>& maps, PageChanges& emitter, const PageSet& sent, bool frozen) {
  ScanCount count;
  std::map<std::uint64_t, Known> before = std::exchange(known_, {});
  std::map<std::uint64_t, std::uint64_t> seen;
  if (userfaultfd_ && before.empty()) register_together(maps);
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < maps.size(); i++) {
    const proc::Vma& vma = maps[i];
    room_ = {at, i + 1 < maps.size() ? maps[i + 1].start : vma.end};
    emitter.drop(at, vma.start);  // unmapped since it was sent
    at = vma.end;
    const Kind kind = kind_of(vma);
    if (kind == Kind::skip) {
      // The vdso for a restore to compare with its own kernel's. The kernel writes to a ring without a trace.
      if (frozen && (vma.kind == proc::VmaName::vdso || is_aio_ring(vma)))
        emitter.add(vma.start, vma.end, true);
      else
        emitter.drop(vma.start, vma.end);
      continue;
    }
    seen[vma.start] = vma.end;
    if (!userfaultfd_ || before.empty()) {
      scan_new(vma, kind, emitter, count);
      continue;
    }
    const auto old = before.find(vma.start);
    const bool same = old != before.end() && old->second.end == vma.end;
    // A VMA that was split, merged or grew is tracked in all its parts or says EPERM; only how to look is decided anew.
    const bool dense = kind == Kind::anonymous && (same ? old->second.dense : vma.size() <= always_dense);
    known_[vma.start] = {vma.end, dense};
    if (dense)
      scan_dense(vma, kind, emitter, count);
    else
      scan_sparse(vma, kind, emitter, sent, count, frozen);
    if (!same) scan_unseen(vma, kind, emitter, count);
  }
  emitter.drop(at, ~0ull);
  emitter.flush();
  seen_ = std::move(seen);
  return count;
}

std::uint64_t Tracker::dirty_bytes(const std::vector<proc::Vma>& maps) {
  std::uint64_t bytes = 0;
  for (const proc::Vma& vma : maps) {
    const Kind kind = kind_of(vma);
    if (kind == Kind::skip) continue;
    regions_.clear();
    scanner_.scan(
        {.start = vma.start, .end = vma.end, .all_of = page_written, .any_of = there, .report = reported(kind)},
        regions_);
    for (const PageRegion& r : regions_)
      if (!(r.categories & (page_pfnzero | page_guard)) && !(kind == Kind::file && (r.categories & page_file)))
        bytes += r.end - r.start;
  }
  return bytes;
}

}  // namespace godwit::engine
