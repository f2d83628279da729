// A chain of image directories (each the `parent` of the one before), as far as the pages of one object go.
//
// Errors: Errc::image_corrupt that names the file, as "parent/parent/pagemap-12.img". Not thread-safe.
#pragma once

#include "common/base/fd.h"
#include "common/image/magic.h"
#include "common/image/pagemap.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::image {

inline constexpr const char* parent_link = "parent";

enum class PagesAccess { read = 1, punch };  // punch: pages files are opened for writing

// One directory of the chain.
class PageLevel {
 public:
  // `where` ends in a slash, or is empty: for messages.
  PageLevel(UniqueFd directory, Kind kind, std::uint64_t id, std::string where);

  // The pages file, opened when it is first asked for, and checked to be as long as the pagemap needs it.
  int pages_fd(PagesAccess access);
  // The index of the run that holds `vaddr`, or of the first one behind it (the number of runs if there is none).
  std::size_t run_from(std::uint64_t vaddr) const;
  // The index of the run that holds `vaddr`, or of none.
  std::optional<std::size_t> run_at(std::uint64_t vaddr) const;
  // Where a page that is present in a run lies in the pages file.
  off_t offset(std::size_t run, std::uint64_t vaddr) const {
    return static_cast<off_t>(offsets_[run] + (vaddr - map_.runs[run].vaddr));
  }

  // Where in this range of the pages file the first hole begins, or the end of the range: a dedup has freed what is in
  // it, and reading gives zeroes. The pages file has been opened.
  off_t solid_until(off_t offset, std::uint64_t length);
  // Refuses when there is one.
  void refuse_freed(off_t offset, std::uint64_t length);

  int directory() const { return directory_.get(); }
  const Pagemap& map() const { return map_; }
  const std::string& prefix() const { return prefix_; }
  const std::string& name() const { return name_; }  // of the pagemap, with the prefix

 private:
  UniqueFd directory_;
  std::string prefix_, name_;
  Pagemap map_;
  std::vector<std::uint64_t> offsets_;  // of each run in the pages file
  UniqueFd pages_;
  off_t solid_from_ = 0, solid_until_ = 0;  // known to have no hole: asking for each run anew would walk the file again
};

// Levels are opened when they are first asked for.
class PageLevels {
 public:
  // The nearest directory is `dirfd`; `where` as above.
  PageLevels(int dirfd, Kind kind, std::uint64_t id, std::string where = {});

  // Fails when there is no such level.
  PageLevel& at(std::size_t depth);
  // Null when the chain ends above it: no parent, or a parent that does not have the object.
  PageLevel* find(std::size_t depth);

 private:
  UniqueFd parent_of(const PageLevel& child) const;

  Kind kind_;
  std::uint64_t id_;
  std::vector<std::unique_ptr<PageLevel>> levels_;  // nearest first
};

// The directory that `parent` of `dirfd` leads to; none when there is no such link. Errc::image_corrupt when nothing is
// there.
UniqueFd open_parent(int dirfd);

// All of them, the nearest first, as far as the links lead and do not come back. One that leads nowhere is the end:
// when everything there has been superseded it may have been removed.
std::vector<UniqueFd> open_parents(int dirfd);

}  // namespace godwit::image
