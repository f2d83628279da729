// Where the mappings of shared memory end. It may hold more, which a task can map again (mremap); CRIU takes this end
// for its size, and its restore stops, without a word, at the first run of a pagemap that goes beyond it. So no run
// crosses it.
#pragma once

#include "common/image/image_set.h"
#include "common/pagewire/frame.h"

#include <cstdint>
#include <map>
#include <vector>

namespace godwit::engine {

// By the mm images of a set. Without them, as in a pre-dump, nothing is known of any.
class MappedEnds {
 public:
  explicit MappedEnds(const image::ImageSet& images);
  std::uint64_t of(pagewire::ObjectId object) const;  // 0: none is known

 private:
  std::map<pagewire::ObjectId, std::uint64_t> ends_;
};

// One run or two.
std::vector<pagewire::Run> cut_at(pagewire::Run run, std::uint64_t end);

}  // namespace godwit::engine
