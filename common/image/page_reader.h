// Finds the bytes of pages in a directory of images and, for what did not change, in its parents (`parent`
// symlinks, the nearest first).
//
//   PageReader reader(dirfd, Kind::pagemap, pid);
//   while (const auto run = reader.next()) pread_exact(run->fd, buffer, run->offset);
//
// Lazy: a parent is opened when the first page needs it. Errors: Errc::image_corrupt that names the file,
// for pages that no parent has or that have been freed, loops of parents, pages files that are too short. Descriptors
// are the reader's own and live as long as it does. Not thread-safe.
#pragma once

#include "common/image/page_levels.h"

#include <cstdint>
#include <optional>

namespace godwit::image {

struct PageSource {
  std::uint64_t vaddr = 0;
  std::uint64_t pages = 0;
  int fd = -1;
  off_t offset = 0;           // bytes, in `fd`
  std::size_t depth = 0;      // of `fd`: how many parents up
  std::size_t record_at = 0;  // of the run, in the pagemap of the nearest directory
};

class PageReader {
 public:
  // `kind`: pagemap or pagemap_shmem. Opens and checks pagemap-ID.img of this directory.
  // `access`: whether the caller means to free what it has read.
  PageReader(int dirfd, Kind kind, std::uint64_t id, PagesAccess access = PagesAccess::read);

  // Ascending and not overlapping; one run never spans two files. Nothing at the end.
  std::optional<PageSource> next();

  const Pagemap& pagemap() { return levels_.at(0).map(); }  // of the nearest directory

 private:
  PageSource source(std::size_t depth, std::uint64_t vaddr, std::uint64_t end);

  PageLevels levels_;
  PagesAccess access_;
  std::size_t run_ = 0;     // of the nearest directory
  std::uint64_t done_ = 0;  // pages of that run which were handed out
};

// Reads no page, but finds each of this object: Errc::image_corrupt when one is not there.
void refuse_missing_pages(int dirfd, Kind kind, std::uint64_t id);

// Makes `dirfd` a child of `target` (a path, relative to the directory if not absolute). It may be one already;
// Errc::already_exists when it is the child of another.
void set_parent(int dirfd, const std::string& target);

}  // namespace godwit::image
