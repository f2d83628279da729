// What `godwit` tells a runbook. Stable: docs/architecture.md.
#pragma once

namespace godwit::cli {

enum ExitCode {
  exit_done = 0,
  exit_failed = 1,       // failed and rolled back: the workload runs where it was
  exit_usage = 2,        // bad command line
  exit_refused = 3,      // by preflight or admission: nothing was touched
  exit_unreachable = 4,  // the coordinator cannot be reached
  exit_unknown = 5,      // outcome unknown: see `godwit ps`; or it is done, and could not be printed
};

}  // namespace godwit::cli
