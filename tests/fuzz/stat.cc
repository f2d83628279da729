#include "common/proc/stat.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) { require(proc::parse_stat(input).comm.size() < input.size()); }

}  // namespace godwit
