#include "common/image/page_reader.h"

#include "common/base/units.h"

#include <algorithm>
#include <array>
#include <climits>
#include <string_view>

namespace godwit::image {

PageReader::PageReader(int dirfd, Kind kind, std::uint64_t id, PagesAccess access)
    : levels_(dirfd, kind, id), access_(access) {}

// The longest piece of [vaddr, end) from its start that lies in one file, at `depth` or further up.
PageSource PageReader::source(std::size_t depth, std::uint64_t vaddr, std::uint64_t end) {
  PageLevel& here = levels_.at(depth);
  const auto index = here.run_at(vaddr);
  if (!index) fail(Errc::image_corrupt, "{} has no page {:#x}, which a child of it refers to", here.name(), vaddr);
  const PageRun& run = here.map().runs[*index];
  end = std::min(end, run.end());
  const Doing doing("{} at offset {}", here.name(), here.map().record_at[*index]);
  if (run.is(PageFlag::parent)) return source(depth + 1, vaddr, end);
  if (!run.is(PageFlag::present))
    fail(Errc::image_corrupt, "page {:#x} was left to be fetched later, its bytes are not here", vaddr);
  const PageSource found{.vaddr = vaddr,
                         .pages = (end - vaddr) / page_size,
                         .fd = here.pages_fd(access_),
                         .offset = here.offset(*index, vaddr),
                         .depth = depth};
  here.refuse_freed(found.offset, end - vaddr);
  return found;
}

std::optional<PageSource> PageReader::next() {
  const std::vector<PageRun>& runs = pagemap().runs;
  if (run_ == runs.size()) return std::nullopt;
  const PageRun& run = runs[run_];
  PageSource found = source(0, run.vaddr + done_ * page_size, run.end());
  found.record_at = pagemap().record_at[run_];
  done_ += found.pages;
  if (done_ == run.pages) {
    ++run_;
    done_ = 0;
  }
  return found;
}

void refuse_missing_pages(int dirfd, Kind kind, std::uint64_t id) {
  PageReader reader(dirfd, kind, id);
  while (reader.next()) continue;
}

void set_parent(int dirfd, const std::string& target) {
  if (::symlinkat(target.c_str(), dirfd, parent_link) == 0) return;
  if (errno != EEXIST) check(-1, "link {} to {}", parent_link, target);
  std::array<char, PATH_MAX> there{};
  const ssize_t n = check(::readlinkat(dirfd, parent_link, there.data(), there.size()), "read link {}", parent_link);
  const std::string_view old(there.data(), static_cast<std::size_t>(n));
  if (old != target) fail(Errc::already_exists, "{} leads to {} already, not to {}", parent_link, old, target);
}

}  // namespace godwit::image
