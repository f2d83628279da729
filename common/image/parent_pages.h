// What the parents of a directory of images have of one object: for who writes a child of them.
//
//   auto parent = ParentPages::of(dirfd, Kind::pagemap, pid, PagesAccess::punch);
//   if (parent && !parent->first_missing(vaddr, pages)) ...   // a hole may be written
//   parent->punch(vaddr, pages);                              // what was written supersedes it
//
// Errors: Errc::image_corrupt that names the file. Not thread-safe.
#pragma once

#include "common/image/page_levels.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>

namespace godwit::image {

class ParentPages {
 public:
  // Nothing when `dirfd` has no parent, or its parent does not have the object.
  static std::optional<ParentPages> of(int dirfd, Kind kind, std::uint64_t id, PagesAccess access);

  // The first page of the range whose bytes no parent has; none when they are all there.
  std::optional<std::uint64_t> first_missing(std::uint64_t vaddr, std::uint64_t pages);

  // Frees what the parents have of this range; their files keep their sizes. Returns the bytes that were covered.
  // Needs PagesAccess::punch. A parent is of no use by itself afterwards.
  std::uint64_t punch(std::uint64_t vaddr, std::uint64_t pages);
  // The directories in which it has freed something.
  std::set<std::string> freed_in();

 private:
  ParentPages(PageLevels levels, PagesAccess access) : levels_(std::move(levels)), access_(access) {}
  // How far from `vaddr` the bytes are there; `vaddr` itself when they are not.
  std::uint64_t there_until(std::uint64_t vaddr, std::uint64_t end);

  PageLevels levels_;
  PagesAccess access_;
  std::set<std::size_t> freed_;  // levels
};

}  // namespace godwit::image
