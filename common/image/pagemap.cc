#include "common/image/pagemap.h"

#include "common/base/error.h"
#include "common/base/units.h"
#include "common/image/pagemap.pb.h"
#include "common/image/record.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace godwit::image {
namespace {

constexpr std::uint64_t max_count = std::numeric_limits<std::uint32_t>::max();
constexpr auto bit = [](PageFlag flag) { return static_cast<std::uint32_t>(flag); };

bool fits(const PageRun& run) {
  return run.vaddr % page_size == 0 && run.pages > 0 && run.pages <= (UINT64_MAX - run.vaddr) / page_size;
}

PageRun run_of(const PagemapEntry& entry) {
  PageRun run{.vaddr = entry.vaddr(), .pages = entry.has_nr_pages() ? entry.nr_pages() : entry.compat_nr_pages()};
  run.flags = entry.flags();
  if (entry.in_parent()) run.flags |= bit(PageFlag::parent);
  if (!entry.has_flags() && !entry.in_parent()) run.flags = bit(PageFlag::present);
  return run;
}

}  // namespace

PagemapWriter::PagemapWriter(std::uint32_t pages_id, std::uint64_t cut)
    : bytes_(header(Kind::pagemap)), cut_(page_down(cut)) {
  PagemapHead head;
  head.set_pages_id(pages_id);
  append_record(bytes_, head);
}

void PagemapWriter::add(std::uint64_t vaddr, std::uint64_t pages, PageFlag flag) {
  add(PageRun{.vaddr = vaddr, .pages = pages, .flags = bit(flag)});
}

void PagemapWriter::add(const PageRun& run) {
  if (run.pages == 0) return;
  if (!fits(run) || run.vaddr < pending_.end())
    fail(Errc::internal, "run of {} pages at {:#x} does not follow {:#x}", run.pages, run.vaddr, pending_.end());
  if (pending_.pages > 0 && run.vaddr == pending_.end() && run.flags == pending_.flags) {
    pending_.pages += run.pages;
    return;
  }
  write_pending();
  pending_ = run;
}

void PagemapWriter::write_pending() {
  for (PageRun left = pending_; left.pages > 0;) {
    std::uint64_t count = std::min(left.pages, max_count);
    if (left.vaddr < cut_ && cut_ < left.end()) count = std::min(count, (cut_ - left.vaddr) / page_size);
    PagemapEntry entry;
    entry.set_vaddr(left.vaddr);
    entry.set_compat_nr_pages(static_cast<std::uint32_t>(count));
    entry.set_flags(left.flags);
    append_record(bytes_, entry);
    left.vaddr += count * page_size;
    left.pages -= count;
  }
  pending_ = {.vaddr = pending_.end()};
}

std::string PagemapWriter::take() { return std::exchange(bytes_, {}); }

std::string PagemapWriter::finish() {
  write_pending();
  return std::move(bytes_);
}

Pagemap read_pagemap(const std::string& name, std::string_view bytes) {
  RecordReader reader(Kind::pagemap, name, bytes);
  PagemapHead head;
  if (!reader.next(head)) reader.corrupt("no head");
  Pagemap map{.pages_id = head.pages_id()};
  std::uint64_t end = 0;
  for (PagemapEntry entry;;) {
    const std::size_t offset = reader.offset();
    if (!reader.next(entry)) return map;
    const PageRun run = run_of(entry);
    if (!fits(run)) reader.corrupt(fmt::format("impossible run of {} pages at {:#x}", run.pages, run.vaddr));
    if (run.vaddr < end) reader.corrupt(fmt::format("the run at {:#x} overlaps or precedes the one before", run.vaddr));
    if (run.is(PageFlag::parent) && run.is(PageFlag::present))
      reader.corrupt(fmt::format("the run at {:#x} is both here and in the parent", run.vaddr));
    end = run.end();
    if (run.is(PageFlag::present)) map.bytes_present += run.pages * page_size;
    if (map.bytes_present > static_cast<std::uint64_t>(INT64_MAX)) reader.corrupt("more pages than a file can hold");
    map.runs.push_back(run);
    map.record_at.push_back(offset);
  }
}

}  // namespace godwit::image
