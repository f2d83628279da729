// Two processors, as cpuinfo.img describes them.
#pragma once

#include "common/image/cpuinfo.pb.h"

#include <string>

namespace godwit::engine::commands {

// What a program that began on `wanted` may miss on `here`, as CRIU's `fpu,ins`; empty: nothing.
std::string lacking(const image::CpuinfoX86Entry& wanted, const image::CpuinfoX86Entry& here);

}  // namespace godwit::engine::commands
