#include "common/image/page_reader.h"

#include "common/base/units.h"

#include <algorithm>

#include <sys/stat.h>

namespace godwit::image {
namespace {

constexpr std::size_t max_pagemap_bytes = 1u << 30;
constexpr std::size_t max_parents = 4096;  // as many as nobody has
constexpr const char* parent_link = "parent";

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

UniqueFd open_image(int dir, const std::string& prefix, const std::string& file) {
  try {
    return open_beneath(dir, file, O_RDONLY | O_NONBLOCK);
  } catch (const Error& error) {
    if (error.sys_errno() != ENOENT) throw;
    fail(Errc::image_corrupt, "{}{} is missing", prefix, file);
  }
}

}  // namespace

struct PageReader::Level {
  Level(UniqueFd directory, Kind kind, std::uint64_t id, std::string where)
      : dir(std::move(directory)), prefix(std::move(where)), name(prefix + file_name(kind, id)) {
    const UniqueFd fd = open_image(dir.get(), prefix, file_name(kind, id));
    map = read_pagemap(name, read_all(fd.get(), max_pagemap_bytes));
    offsets.reserve(map.runs.size());
    std::uint64_t offset = 0;
    for (const PageRun& run : map.runs) {
      offsets.push_back(offset);
      if (run.is(PageFlag::present)) offset += run.pages * page_size;
    }
  }

  // The pages file, opened when its first page is asked for.
  int pages_fd() {
    if (pages) return pages.get();
    const std::string file = file_name(Kind::pages, map.pages_id);
    pages = open_image(dir.get(), prefix, file);
    const auto size = static_cast<std::uint64_t>(status_of(pages.get()).st_size);
    if (size < map.bytes_present)
      fail(Errc::image_corrupt, "{}{} has {} bytes, {} needs {}", prefix, file, size, name, map.bytes_present);
    return pages.get();
  }

  // The index of the run that holds `vaddr`, or of none.
  std::optional<std::size_t> run_at(std::uint64_t vaddr) const {
    const auto after = std::ranges::upper_bound(map.runs, vaddr, {}, &PageRun::vaddr);
    if (after == map.runs.begin() || std::prev(after)->end() <= vaddr) return std::nullopt;
    return static_cast<std::size_t>(std::prev(after) - map.runs.begin());
  }

  UniqueFd dir;
  std::string prefix;  // "parent/parent/", for messages
  std::string name;
  Pagemap map;
  std::vector<std::uint64_t> offsets;  // of each run in the pages file
  UniqueFd pages;
};

PageReader::PageReader(int dirfd, Kind kind, std::uint64_t id) : kind_(kind), id_(id) {
  levels_.push_back(std::make_unique<Level>(open_at(dirfd, ".", O_RDONLY | O_DIRECTORY), kind, id, ""));
}

PageReader::~PageReader() = default;
PageReader::PageReader(PageReader&&) noexcept = default;
PageReader& PageReader::operator=(PageReader&&) noexcept = default;

const Pagemap& PageReader::pagemap() const { return levels_.front()->map; }

PageReader::Level& PageReader::level(std::size_t depth) {
  while (levels_.size() <= depth) {
    const Level& child = *levels_.back();
    // Not open_beneath: a parent lies outside its child by nature.
    const int fd = ::openat(child.dir.get(), parent_link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
      fail(Errc::image_corrupt, "{} refers to a parent, but there is no {}{}", child.name, child.prefix, parent_link);
    UniqueFd dir(check(fd, "open {}{}", child.prefix, parent_link));
    const struct stat here = status_of(dir.get());
    for (const auto& seen : levels_) {
      const struct stat there = status_of(seen->dir.get());
      if (Place{here.st_dev, here.st_ino} == Place{there.st_dev, there.st_ino})
        fail(Errc::image_corrupt, "{}{} leads back to a directory that was read already", child.prefix, parent_link);
    }
    if (levels_.size() > max_parents) fail(Errc::image_corrupt, "more than {} parents", max_parents);
    levels_.push_back(std::make_unique<Level>(std::move(dir), kind_, id_, child.prefix + parent_link + "/"));
  }
  return *levels_[depth];
}

// The longest piece of [vaddr, end) from its start that lies in one file, at `depth` or further up.
PageSource PageReader::source(std::size_t depth, std::uint64_t vaddr, std::uint64_t end) {
  for (;; ++depth) {
    Level& here = level(depth);
    const auto index = here.run_at(vaddr);
    if (!index) fail(Errc::image_corrupt, "{} has no page {:#x}, which a child of it refers to", here.name, vaddr);
    const PageRun& run = here.map.runs[*index];
    end = std::min(end, run.end());
    if (run.is(PageFlag::parent)) continue;
    if (!run.is(PageFlag::present))
      fail(Errc::image_corrupt, "page {:#x} of {} was left to be fetched later, its bytes are not here", vaddr,
           here.name);
    return {.vaddr = vaddr,
            .pages = (end - vaddr) / page_size,
            .fd = here.pages_fd(),
            .offset = static_cast<off_t>(here.offsets[*index] + (vaddr - run.vaddr))};
  }
}

std::optional<PageSource> PageReader::next() {
  const std::vector<PageRun>& runs = pagemap().runs;
  if (run_ == runs.size()) return std::nullopt;
  const PageRun& run = runs[run_];
  const PageSource found = source(0, run.vaddr + done_ * page_size, run.end());
  done_ += found.pages;
  if (done_ == run.pages) {
    ++run_;
    done_ = 0;
  }
  return found;
}

void set_parent(int dirfd, const std::string& target) {
  check(::symlinkat(target.c_str(), dirfd, parent_link), "link {} to {}", parent_link, target);
}

}  // namespace godwit::image
