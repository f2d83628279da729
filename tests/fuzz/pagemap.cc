// A pagemap file without its header.
#include "common/image/pagemap.h"

#include "common/image/record.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  using namespace image;
  const Pagemap map = read_pagemap("pagemap-1.img", header(Kind::pagemap).append(input));
  PagemapWriter writer(map.pages_id);
  std::uint64_t end = 0;
  std::uint64_t pages = 0;
  for (const PageRun& run : map.runs) {
    require(end <= run.vaddr && run.vaddr < run.end());
    end = run.end();
    pages += run.pages;
    if (run.pages > 1u << 20) return;  // as many records as 2^32 goes into it: too slow to write
    writer.add(run);
  }
  const Pagemap again = read_pagemap("again", writer.finish());
  require(again.bytes_present == map.bytes_present && again.runs.size() <= map.runs.size());
  for (const PageRun& run : again.runs) pages -= run.pages;
  require(pages == 0);
}

}  // namespace godwit
