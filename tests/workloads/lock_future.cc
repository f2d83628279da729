// Checks: mlockall(MCL_FUTURE), as lock_on_fault with MCL_ONFAULT: mappings made before stay as they are, those to come
// are locked, at once or when they are touched.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <sstream>
#include <string_view>
#include <sys/mman.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 4 * 4096;

// Of the mapping at `at`, as smaps has it: one that nothing lies beside.
std::string flags_of(const void* at) {
  std::istringstream smaps(read_file("/proc/self/smaps"));
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long start = 0, end = 0;
    if (sscanf(line.c_str(), "%lx-%lx ", &start, &end) == 2)
      here = start <= reinterpret_cast<unsigned long>(at) && reinterpret_cast<unsigned long>(at) < end;
    else if (here && line.starts_with("VmFlags:"))
      return line + " ";
  }
  return {};
}

bool locked(const void* at) { return flags_of(at).find(" lo ") != std::string::npos; }

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const char* const name = getenv("WORKLOAD");
  const bool on_fault = name != nullptr && std::string_view(name) == "lock_on_fault";
  char* const before = map(size);
  fill(before, size, 1);
  char* const apart = map(4096);
  must(mprotect(apart, 4096, PROT_NONE), "mprotect");
  must(mlockall(on_fault ? MCL_FUTURE | MCL_ONFAULT : MCL_FUTURE), "mlockall");
  char* const after = map(size);
  fill(after, 4096, 2);
  const std::string layout_before = layout(before, size), layout_after = layout(after, size);

  w.ready();
  w.wait_for_verify();
  w.check(layout(before, size) == layout_before && !locked(before), "the mapping made before is now\n%s",
          layout(before, size).c_str());
  w.check(layout(after, size) == layout_after && locked(after), "the mapping made after is now\n%s",
          layout(after, size).c_str());
  w.check(holds(before, size, 1) && holds(after, 4096, 2), "the memory changed");
  char* const fresh = map(size);
  w.check(locked(fresh), "a new mapping is not locked");
  unsigned char resident[size / 4096] = {};
  w.check(mincore(fresh, size, resident) == 0 && (resident[3] & 1) == (on_fault ? 0 : 1), "a new mapping is there %s",
          on_fault ? "before it is touched" : "only when it is touched");
  return w.finish();
}
