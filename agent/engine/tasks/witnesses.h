// A Landlock domain shows nowhere, but whoever is in one may not look at a process outside of it. So each thread is
// asked about one that it could look at otherwise: a process of its own user and group, in the same place, without any
// right, which has ended and waits to be reaped. It is made before the thread is stopped, and costs a fork.
#pragma once

#include <map>
#include <utility>

#include <sys/types.h>

namespace godwit::engine::tasks {

class Witnesses {
 public:
  // For the threads of a process. None where the kernel knows no Landlock, or where the process is on its way out.
  explicit Witnesses(pid_t pid);
  ~Witnesses();
  Witnesses(const Witnesses&) = delete;
  Witnesses& operator=(const Witnesses&) = delete;

  pid_t of(pid_t tid) const;  // as the process knows it; 0: none

 private:
  struct Witness {
    pid_t host = 0, guest = 0;
  };
  using Ids = std::pair<uid_t, gid_t>;  // real ones

  std::map<Ids, Witness> witnesses_;
  std::map<pid_t, pid_t> by_thread_;
};

}  // namespace godwit::engine::tasks
