// Whoever dumps by hand may be killed at any moment: by Ctrl-C, with its terminal, for want of memory. A process of the
// guardian's own (heir.h) then puts back what was borrowed from the target (ptrace/journal.h), which runs on as before.
//
// One thread, before any other is started.
#pragma once

#include "agent/engine/commands/heir.h"
#include "agent/engine/ptrace/journal.h"

#include <functional>

namespace godwit::engine::commands {

class Guardian {
 public:
  // `afterwards` is done there when something was put back.
  explicit Guardian(const std::function<void()>& afterwards);

  // What is to be put back; outlived by this object.
  Journal& journal() { return journal_; }

 private:
  UniqueFd memory_;
  Journal journal_;
  Heir heir_;
};

}  // namespace godwit::engine::commands
