// Named fault points. A test arms one through the environment:
//
//   GODWIT_FAULT=engine.dump.frozen=kill       SIGKILL this process there
//   GODWIT_FAULT=engine.restore.filled=fail    throw Error(internal) there
//   GODWIT_FAULT=engine.inject.userfaultfd=fail:kernel_missing      the same, of another code
//   GODWIT_FAULT=agent.commit=pause:2000       sleep 2,000 ms there
//   GODWIT_FAULT=coordinator.arming=stop       SIGSTOP this process there, until somebody continues it
//   GODWIT_FAULT=a=fail,b=kill                 several
//
// Or, in programs that already run, through the file that GODWIT_FAULT_FILE names: the same text, but each fault
// happens once and is taken out of the file when it does, so that a test sees whether the point was reached.
//
// Costs one branch when nothing is armed. Every name is listed in fault_points.h; arming another is an error.
#pragma once

#include <string_view>

namespace godwit::fault {

void point(std::string_view name);

}  // namespace godwit::fault
