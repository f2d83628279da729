#include "common/proc/maps.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  std::uint64_t end = 0;
  for (const proc::Vma& vma : proc::parse_maps(input)) {
    require(end <= vma.start && vma.start < vma.end);
    end = vma.end;
  }
}

}  // namespace godwit
