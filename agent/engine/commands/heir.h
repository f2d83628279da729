// A process beside this one that does what is left to do when this one is killed, or interrupted, before it could: out
// of reach of the terminal and of the caller's control groups.
//
// It costs a fork, and ends with this object. One thread, before any other is started.
#pragma once

#include "common/base/fd.h"

#include <functional>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::commands {

class Heir {
 public:
  // Of the descriptors of this process it keeps standard error, for the log, and `legacy`, which `act` is given.
  using Act = std::function<void(UniqueFd legacy)>;
  // Its PID is none of `avoid`: those that are to be restored.
  Heir(int legacy, const Act& act, const std::vector<pid_t>& avoid = {});
  ~Heir();
  Heir(const Heir&) = delete;
  Heir& operator=(const Heir&) = delete;

 private:
  pid_t pid_ = -1;
};

}  // namespace godwit::engine::commands
