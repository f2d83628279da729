// Requests of native AIO that are in flight in one round after another. As long as they are, each round stops the
// process and sends everything again, and what does not end (a poll of a silent socket) would be told by the freeze
// only.
#pragma once

#include "common/base/error.h"

#include <cstdint>
#include <map>

#include <sys/types.h>

namespace godwit::engine {

class LastingRequests {
 public:
  void begin_round() { found_.clear(); }
  void found(pid_t pid, const Error& what) { found_.insert_or_assign(pid, what); }
  // Throws what was in the way in this round, and in all of the last ones.
  void end_round(std::uint64_t now_ns);

 private:
  struct Since {
    unsigned rounds = 0;
    std::uint64_t ns = 0;
  };
  std::map<pid_t, Error> found_;
  std::map<pid_t, Since> since_;
};

}  // namespace godwit::engine
