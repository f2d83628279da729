// With what processes have to be born, so that in the end those share a table of descriptors, or a working directory,
// that shared one at the source.
//
// Such an object can only be inherited, or left (unshare): nobody can join another's later. So whoever stands between
// two that share one, as a child of the first and the parent or maker of the second, is born with it, too, and leaves
// it in the end. Of several it can only hand down one.
#pragma once

#include <span>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

struct Sharer {
  pid_t pid = 0;
  pid_t parent = 0;  // 0: it is made by nobody of the tree
  pid_t owner = 0;   // the first of those who share the object; its own PID: nobody else does, before it
};

enum class Birth {
  anew = 1,      // with an object of its own
  with_makers,   // with that of whoever makes it
  out_of_reach,  // somebody shares the object already who cannot hand it down to this one
};

// Parents come before their children. One for each of `tree`.
std::vector<Birth> births_of(std::span<const Sharer> tree);

}  // namespace godwit::engine
