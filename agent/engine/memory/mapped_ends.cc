#include "agent/engine/memory/mapped_ends.h"

#include "common/base/units.h"
#include "common/image/mm.pb.h"
#include "common/image/vma_status.h"

#include <algorithm>

namespace godwit::engine {

MappedEnds::MappedEnds(const image::ImageSet& images) {
  for (const auto& [name, bytes] : images.files()) {
    const auto file = image::parse_file_name(name);
    if (!file || file->kind != image::Kind::mm) continue;
    for (const image::MmEntry& mm : images.records<image::MmEntry>(image::Kind::mm, file->id))
      for (const image::VmaEntry& v : mm.vmas())
        if (v.status() & image::vma_status::anon_shared) {
          std::uint64_t& end = ends_[pagewire::object_id(pagewire::ObjectType::shmem, v.shmid())];
          end = std::max(end, v.pgoff() + (v.end() - v.start()));
        }
  }
}

std::uint64_t MappedEnds::of(pagewire::ObjectId object) const {
  const auto end = ends_.find(object);
  return end == ends_.end() ? 0 : end->second;
}

std::vector<pagewire::Run> cut_at(pagewire::Run run, std::uint64_t end) {
  if (end <= run.address || end >= run.address + run.pages * page_size) return {run};
  const std::uint64_t below = (end - run.address) / page_size;
  return {{run.address, below}, {end, run.pages - below}};
}

}  // namespace godwit::engine
