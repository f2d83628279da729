#include "common/image/page_levels.h"

#include "common/base/units.h"

#include <algorithm>

#include <sys/stat.h>

namespace godwit::image {
namespace {

constexpr std::size_t max_pagemap_bytes = 1u << 30;
constexpr std::size_t max_parents = 4096;  // as many as nobody has

struct Place {
  dev_t dev;
  ino_t ino;
  bool operator==(const Place&) const = default;
};

struct stat status_of(int fd) {
  struct stat st{};
  check(::fstat(fd, &st), "fstat");
  return st;
}

Place place_of(int fd) {
  const struct stat st = status_of(fd);
  return {st.st_dev, st.st_ino};
}

UniqueFd open_image(int dir, const std::string& prefix, const std::string& file, int flags) {
  try {
    return open_beneath(dir, file, flags | O_NONBLOCK);
  } catch (const Error& error) {
    if (error.sys_errno() != ENOENT) throw;
    fail(Errc::image_corrupt, "{}{} is missing", prefix, file);
  }
}

bool is_there(int dir, const std::string& file) {
  return ::faccessat(dir, file.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

UniqueFd parent_if_there(int dirfd) {
  // Not open_beneath: a parent lies outside its child by nature.
  const int fd = ::openat(dirfd, parent_link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return {};
  return UniqueFd(check(fd, "open {}", parent_link));
}

}  // namespace

UniqueFd open_parent(int dirfd) {
  UniqueFd parent = parent_if_there(dirfd);
  if (!parent && is_there(dirfd, parent_link))
    fail(Errc::image_corrupt, "{} leads to {}, where nothing is", parent_link,
         read_link(fmt::format("/proc/self/fd/{}/{}", dirfd, parent_link)));
  return parent;
}

std::vector<UniqueFd> open_parents(int dirfd) {
  std::vector<UniqueFd> parents;
  std::vector<Place> seen{place_of(dirfd)};
  for (UniqueFd at = parent_if_there(dirfd); at && std::ranges::find(seen, place_of(at.get())) == seen.end();) {
    seen.push_back(place_of(at.get()));
    parents.push_back(std::move(at));
    at = parent_if_there(parents.back().get());
  }
  return parents;
}

PageLevel::PageLevel(UniqueFd directory, Kind kind, std::uint64_t id, std::string where)
    : directory_(std::move(directory)), prefix_(std::move(where)), name_(prefix_ + file_name(kind, id)) {
  const UniqueFd fd = open_image(directory_.get(), prefix_, file_name(kind, id), O_RDONLY);
  map_ = read_pagemap(name_, read_all(fd.get(), max_pagemap_bytes));
  offsets_.reserve(map_.runs.size());
  std::uint64_t offset = 0;
  for (const PageRun& run : map_.runs) {
    offsets_.push_back(offset);
    if (run.is(PageFlag::present)) offset += run.pages * page_size;
  }
}

int PageLevel::pages_fd(PagesAccess access) {
  if (pages_) return pages_.get();
  const std::string file = file_name(Kind::pages, map_.pages_id);
  pages_ = open_image(directory_.get(), prefix_, file, access == PagesAccess::punch ? O_RDWR : O_RDONLY);
  const auto size = static_cast<std::uint64_t>(status_of(pages_.get()).st_size);
  if (size < map_.bytes_present)
    fail(Errc::image_corrupt, "{}{} at offset {}: the file ends, {} needs {} bytes of it", prefix_, file, size, name_,
         map_.bytes_present);
  return pages_.get();
}

off_t PageLevel::solid_until(off_t offset, std::uint64_t length) {
  const off_t end = offset + static_cast<off_t>(length);
  if (offset < solid_from_ || end > solid_until_) {
    solid_from_ = offset;
    solid_until_ = check(::lseek(pages_.get(), offset, SEEK_HOLE), "find a hole in the pages of {}", name_);
  }
  return std::min(end, solid_until_);
}

void PageLevel::refuse_freed(off_t offset, std::uint64_t length) {
  const off_t hole = solid_until(offset, length);
  if (hole < offset + static_cast<off_t>(length))
    fail(Errc::image_corrupt, "{}{} at offset {}: pages that are needed have been freed by a dedup", prefix_,
         file_name(Kind::pages, map_.pages_id), hole);
}

std::size_t PageLevel::run_from(std::uint64_t vaddr) const {
  const auto after = std::ranges::upper_bound(map_.runs, vaddr, {}, &PageRun::vaddr);
  const auto index = static_cast<std::size_t>(after - map_.runs.begin());
  return index > 0 && map_.runs[index - 1].end() > vaddr ? index - 1 : index;
}

std::optional<std::size_t> PageLevel::run_at(std::uint64_t vaddr) const {
  const std::size_t index = run_from(vaddr);
  if (index == map_.runs.size() || map_.runs[index].vaddr > vaddr) return std::nullopt;
  return index;
}

PageLevels::PageLevels(int dirfd, Kind kind, std::uint64_t id, std::string where) : kind_(kind), id_(id) {
  levels_.push_back(
      std::make_unique<PageLevel>(open_at(dirfd, ".", O_RDONLY | O_DIRECTORY), kind, id, std::move(where)));
}

// None at the end of the chain.
UniqueFd PageLevels::parent_of(const PageLevel& child) const {
  Doing doing("looking for the parent of {}", child.name());
  UniqueFd dir = open_parent(child.directory());
  if (!dir) return dir;
  for (const auto& seen : levels_)
    if (place_of(dir.get()) == place_of(seen->directory()))
      fail(Errc::image_corrupt, "{}{} leads back to a directory that was read already", child.prefix(), parent_link);
  if (levels_.size() > max_parents) fail(Errc::image_corrupt, "more than {} parents", max_parents);
  return dir;
}

PageLevel& PageLevels::at(std::size_t depth) {
  while (levels_.size() <= depth) {
    const PageLevel& child = *levels_.back();
    UniqueFd dir = parent_of(child);
    if (!dir)
      fail(Errc::image_corrupt, "{} refers to a parent, but there is no {}{}", child.name(), child.prefix(),
           parent_link);
    levels_.push_back(std::make_unique<PageLevel>(std::move(dir), kind_, id_, child.prefix() + parent_link + "/"));
  }
  return *levels_[depth];
}

PageLevel* PageLevels::find(std::size_t depth) {
  while (levels_.size() <= depth) {
    const PageLevel& child = *levels_.back();
    UniqueFd dir = parent_of(child);
    if (!dir || !is_there(dir.get(), file_name(kind_, id_))) return nullptr;
    levels_.push_back(std::make_unique<PageLevel>(std::move(dir), kind_, id_, child.prefix() + parent_link + "/"));
  }
  return levels_[depth].get();
}

}  // namespace godwit::image
