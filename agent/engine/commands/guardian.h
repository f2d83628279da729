// Whoever dumps by hand may be killed at any moment: by Ctrl-C, with its terminal, for want of memory. A process of the
// guardian's own, out of reach of the terminal and of the caller's control groups, then puts back what was borrowed
// from the target (ptrace/journal.h), which runs on as before.
//
// It costs a fork, and ends with this object. One thread, before any other is started.
#pragma once

#include "agent/engine/ptrace/journal.h"

#include <functional>

#include <sys/types.h>

namespace godwit::engine::commands {

class Guardian {
 public:
  // `afterwards` is done there when something was put back.
  explicit Guardian(std::function<void()> afterwards = {});
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  // What is to be put back; outlived by this object.
  Journal& journal() { return journal_; }

 private:
  UniqueFd memory_;
  Journal journal_;
  pid_t pid_ = -1;
};

}  // namespace godwit::engine::commands
