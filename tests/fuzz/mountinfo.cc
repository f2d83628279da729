#include "common/proc/mountinfo.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  for (const proc::Mount& mount : proc::parse_mountinfo(input)) require(!mount.point.empty());
}

}  // namespace godwit
