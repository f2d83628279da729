// What a restore with --auto-dedup has freed so far: a page goes from its file once it is in the memory of a process.
// When that process does not come to be, nothing can be restored from those directories any more. That is said, also
// when the command is interrupted.
#pragma once

#include "agent/engine/commands/heir.h"

#include <set>
#include <string>
#include <vector>

namespace godwit::engine::commands {

class FreedImages {
 public:
  // `chain`: the images directory and its parents. `avoid`: PIDs that are to be restored.
  FreedImages(std::vector<std::string> chain, const std::vector<pid_t>& avoid);

  // In this one of them something is about to be freed.
  void add(std::size_t level);
  // The restore has failed.
  void say() const;

 private:
  std::vector<std::string> chain_;
  std::set<std::size_t> levels_;
  UniqueFd notes_;  // the same, in a memfd
  Heir heir_;
};

}  // namespace godwit::engine::commands
