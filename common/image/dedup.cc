#include "common/image/dedup.h"

#include "common/image/generation.h"
#include "common/image/image_set.h"
#include "common/image/page_reader.h"
#include "common/image/parent_pages.h"

#include <utility>
#include <vector>

namespace godwit::image {
namespace {

// What the pages of one directory supersede in its parents.
std::uint64_t punch_parents(PageLevel& level, Kind kind, std::uint64_t id) {
  auto parents = ParentPages::of(level.directory(), kind, id, PagesAccess::punch);
  if (!parents) return 0;
  std::uint64_t freed = 0;
  for (const PageRun& run : level.map().runs)
    if (run.is(PageFlag::present)) freed += parents->punch(run.vaddr, run.pages);
  return freed;
}

}  // namespace

std::uint64_t dedup(int dirfd) {
  refuse_unfinished(dirfd);
  refuse_other_pages(dirfd);
  const ImageSet images = ImageSet::load(dirfd);
  std::vector<std::pair<Kind, std::uint64_t>> objects;
  for (const Kind kind : {Kind::pagemap, Kind::pagemap_shmem})
    for (const std::uint64_t id : images.ids(kind)) objects.emplace_back(kind, id);
  // What is freed below a page is lost with it when it is not there.
  for (const auto& [kind, id] : objects) refuse_missing_pages(dirfd, kind, id);
  std::uint64_t freed = 0;
  for (const auto& [kind, id] : objects) {
    PageLevels levels(dirfd, kind, id);
    // Parents supersede each other too.
    std::size_t depth = 0;
    while (PageLevel* level = levels.find(depth++)) freed += punch_parents(*level, kind, id);
  }
  return freed;
}

}  // namespace godwit::image
