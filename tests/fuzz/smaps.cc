#include "common/proc/maps.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  std::uint64_t end = 0;
  for (const proc::VmaUsage& usage : proc::parse_smaps(input)) {
    require(end <= usage.vma.start && usage.vma.start < usage.vma.end);
    require(proc::VmFlags(usage.flags.text(), usage.flags.protection_key()) == usage.flags);
    usage.flags.has("rd");
    end = usage.vma.end;
  }
}

}  // namespace godwit
