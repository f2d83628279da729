#pragma once
// What /proc/self/smaps says about a part of this process's address space, as text to compare before and after.

#include <cstddef>
#include <string>

namespace godwit::workloads {

// One line per mapping: range, permissions, offset, name, VmFlags. Neighbours that differ in nothing are one line, and
// the flags that only tell what the kernel did lately (soft-dirty, write-protection by a tracker, accounting) are left
// out.
std::string layout(const void* at, std::size_t bytes);

}  // namespace godwit::workloads
