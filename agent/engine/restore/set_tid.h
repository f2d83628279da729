// The numbers that a process or thread is to be born with, for clone3(2).
#pragma once

#include "agent/engine/ptrace/batch.h"

#include <span>
#include <vector>

#include <linux/sched.h>
#include <sys/types.h>

namespace godwit::engine {

// `names`: from the tree's PID namespace down to its own. The kernel takes the innermost first.
inline void put_names(Batch& batch, const std::vector<pid_t>& names, clone_args& arguments) {
  const std::vector<pid_t> inside_out(names.rbegin(), names.rend());
  arguments.set_tid = raw(batch.put_bytes(std::as_bytes(std::span(inside_out))));
  arguments.set_tid_size = inside_out.size();
}

}  // namespace godwit::engine
