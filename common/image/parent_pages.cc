#include "common/image/parent_pages.h"

#include "common/base/units.h"

#include <algorithm>

#include <fcntl.h>

namespace godwit::image {

std::optional<ParentPages> ParentPages::of(int dirfd, Kind kind, std::uint64_t id, PagesAccess access) {
  const UniqueFd parent = open_parent(dirfd);
  if (!parent || ::faccessat(parent.get(), file_name(kind, id).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0)
    return std::nullopt;
  return ParentPages(PageLevels(parent.get(), kind, id, std::string(parent_link) + "/"), access);
}

std::uint64_t ParentPages::there_until(std::uint64_t vaddr, std::uint64_t end) {
  for (std::size_t depth = 0;; ++depth) {
    PageLevel* level = levels_.find(depth);
    if (!level) return vaddr;
    const auto index = level->run_at(vaddr);
    if (!index) return vaddr;
    const PageRun& run = level->map().runs[*index];
    end = std::min(end, run.end());
    if (run.is(PageFlag::present)) {
      level->pages_fd(access_);
      const off_t offset = level->offset(*index, vaddr);
      const auto solid = static_cast<std::uint64_t>(level->solid_until(offset, end - vaddr) - offset);
      return vaddr + solid / page_size * page_size;  // blocks may be smaller than pages
    }
    if (!run.is(PageFlag::parent)) return vaddr;  // left to be fetched later
  }
}

std::optional<std::uint64_t> ParentPages::first_missing(std::uint64_t vaddr, std::uint64_t pages) {
  const std::uint64_t end = vaddr + pages * page_size;
  while (vaddr < end) {
    const std::uint64_t until = there_until(vaddr, end);
    if (until == vaddr) return vaddr;
    vaddr = until;
  }
  return std::nullopt;
}

std::uint64_t ParentPages::punch(std::uint64_t vaddr, std::uint64_t pages) {
  const std::uint64_t end = vaddr + pages * page_size;
  std::uint64_t covered = 0;
  for (std::size_t depth = 0;; ++depth) {
    PageLevel* level = levels_.find(depth);
    if (!level) return covered;
    const std::vector<PageRun>& runs = level->map().runs;
    for (std::size_t i = level->run_from(vaddr); i < runs.size() && runs[i].vaddr < end; ++i) {
      if (!runs[i].is(PageFlag::present)) continue;
      const std::uint64_t from = std::max(vaddr, runs[i].vaddr), until = std::min(end, runs[i].end());
      check(::fallocate(level->pages_fd(access_), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, level->offset(i, from),
                        static_cast<off_t>(until - from)),
            "free what {} has of {:#x}-{:#x}", level->name(), from, until);
      covered += until - from;
      freed_.insert(depth);
    }
  }
}

std::set<std::string> ParentPages::freed_in() {
  std::set<std::string> directories;
  for (const std::size_t depth : freed_)
    directories.insert(read_link(fmt::format("/proc/self/fd/{}", levels_.at(depth).directory())));
  return directories;
}

}  // namespace godwit::image
