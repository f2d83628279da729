// A PID namespace, with a /proc of its own, for a process to be restored into: every PID is free there.
//
// Its PID 1 is a process of ours that does nothing but reap, and ends as the restored process ended. It ends with the
// command until leave().
#pragma once

#include "common/base/fd.h"

#include <sys/types.h>

namespace godwit::engine::commands {

class PidNamespace {
 public:
  PidNamespace();
  ~PidNamespace();  // ends everything in it, unless left
  PidNamespace(const PidNamespace&) = delete;
  PidNamespace& operator=(const PidNamespace&) = delete;

  UniqueFd init() const;  // a pidfd of PID 1
  pid_t host_pid() const { return pid_; }

  void complete(pid_t guest_pid);  // the process is there: PID 1 ends with it
  int wait();                      // its exit status, 128 + signal when one ended it
  void leave() { left_ = true; }

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd tell_;  // to PID 1
  bool left_ = false;
};

}  // namespace godwit::engine::commands
