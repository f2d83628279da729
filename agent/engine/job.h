// An engine job: does what an agent says over a control socket (job.proto), until the socket closes.
#pragma once

#include "common/base/fd.h"

namespace godwit::engine {

// Returns the exit code. Borrowed state is put back however it ends, but for SIGKILL.
int run_job(UniqueFd control);

}  // namespace godwit::engine
