// The shell that a tree was started from stands still while the tree is held: else it sees its job stop, takes the
// terminal from it and changes the settings.
//
// It is traced, nothing else, and runs on when this goes, or when the engine dies.
#pragma once

#include <chrono>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

class StillParent {
 public:
  // 0: nobody. One that cannot be traced runs on, with a line in the log.
  StillParent(pid_t pid, std::chrono::milliseconds limit);
  ~StillParent();
  StillParent(const StillParent&) = delete;
  StillParent& operator=(const StillParent&) = delete;

 private:
  std::vector<pid_t> tids_;
};

// The parent of `pid` when it is in the same session, with a terminal; else 0.
pid_t parent_on_terminal(pid_t pid);

}  // namespace godwit::engine
