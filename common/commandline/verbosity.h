// -v as CRIU reads it, for the commands that are CRIU's: 0 nothing, 1 errors, 2 warnings, 3 information, 4 all.
#pragma once

#include "common/base/log.h"

#include <string>
#include <vector>

namespace godwit {

inline constexpr int usual_verbosity = 2;
inline constexpr int highest_verbosity = 4;

// -v and --verbosity, which add one each, -vvv, -vN and --verbosity=N, in any number: one --verbosity=N in the place of
// the last of them. There is nothing above 4.
std::vector<std::string> spell_out_verbosity(const std::vector<std::string>& words);

log::Level level_of(int verbosity);

}  // namespace godwit
