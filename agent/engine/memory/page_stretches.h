// The pages of an object as they lie in their files: runs that follow each other there are one stretch, to be mapped at
// once. A process has many runs of a page or two, and to map each by itself costs more than what is in it.
#pragma once

#include "common/image/page_reader.h"

#include <optional>
#include <span>
#include <vector>

namespace godwit::engine {

class PageStretches {
 public:
  explicit PageStretches(image::PageReader& reader) : reader_(reader) {}

  // Of one file, each behind the one before; at most 4 MiB. Empty at the end. Borrowed until the next call.
  std::span<const image::PageSource> next();

 private:
  image::PageReader& reader_;
  std::optional<image::PageSource> ahead_;
  std::vector<image::PageSource> parts_;
};

}  // namespace godwit::engine
