#include "common/proc/status.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) { require(proc::parse_status(input).pid > 0); }

}  // namespace godwit
