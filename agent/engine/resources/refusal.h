// What cannot be carried, named: `what` is the object ("fd 7: anon_inode:[io_uring]"), `reason` a sentence, `hint`
// what the operator can do. `option`: CRIU's for it, which is taken and does not help yet.
#pragma once

#include <string>

namespace godwit::engine::resources {

struct Refusal {
  std::string what;
  std::string reason;
  std::string hint;
  std::string option{};
};

}  // namespace godwit::engine::resources
