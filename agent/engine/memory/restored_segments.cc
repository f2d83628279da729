#include "agent/engine/memory/restored_segments.h"

#include "common/base/check.h"

#include <algorithm>

#include <fcntl.h>
#include <unistd.h>

namespace godwit::engine {

void RestoredSegments::reaches(std::uint64_t shmid, std::uint64_t size) {
  SegmentSpec& spec = segments_[shmid].spec;
  spec.size = std::max(spec.size, size);
}

RestoredSegments::Segment& RestoredSegments::segment(std::uint64_t shmid) {
  Segment& s = segments_[shmid];
  if (!s.made.ours) {
    Doing doing("making shared memory {}", shmid);
    if (!s.spec.memfd && s.spec.size == 0)
      fail(Errc::image_corrupt, "it has pages, but no mapping and nothing in memfd.img says how large it is");
    s.made = make_(s.spec);
  }
  return s;
}

void RestoredSegments::fill(std::uint64_t shmid, std::span<const pagewire::Run> runs, std::span<const std::byte> data) {
  const Segment& s = segment(shmid);
  for (const pagewire::Run& r : runs) {
    const std::span<const std::byte> part = data.subspan(0, r.pages * page_size);
    data = data.subspan(part.size());
    // Past the end this makes it longer. Shared anonymous memory may reach further than its mappings: mremap brings
    // that back. A memfd may be shortened and lengthened all the time: it gets its last size in the end.
    pwrite_all(s.made.ours.get(), part, static_cast<off_t>(r.address));
  }
}

void RestoredSegments::clear(std::uint64_t shmid, std::span<const pagewire::Run> runs) {
  const Segment& s = segment(shmid);
  for (const pagewire::Run& r : runs)
    check(::fallocate(s.made.ours.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(r.address),
                      static_cast<off_t>(r.pages * page_size)),
          "punch shared memory {}", shmid);
}

void RestoredSegments::finish() {
  for (const auto& [shmid, s] : segments_)
    if (s.made.ours && s.spec.memfd)
      check(::ftruncate(s.made.ours.get(), static_cast<off_t>(s.spec.size)), "size shared memory {}", shmid);
}

std::map<std::uint32_t, int> RestoredSegments::numbers() {
  std::map<std::uint32_t, int> all;
  for (const auto& [shmid, s] : segments_) all[static_cast<std::uint32_t>(shmid)] = number(shmid);
  return all;
}

}  // namespace godwit::engine
