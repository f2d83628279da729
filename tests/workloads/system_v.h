#pragma once
// System V objects belong to the IPC namespace and outlive the process; these workloads keep the host's namespace. The
// runner removes what is named to it, however the workload ends.

#include "tests/workloads/workload.h"

#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::workloads {

// `name` is the kernel's for the kind of object: sem, msg.
inline std::string object(const char* name, int id) { return std::string(name) + " " + std::to_string(id) + "\n"; }

// The engine refuses whoever was the last to use an object, so what it needs at the start is somebody else's doing.
template <class Body>
void by_another(Body body) {
  const pid_t pid = must(fork(), "fork");
  if (pid == 0) {
    body();
    _exit(0);
  }
  int status = 0;
  must(waitpid(pid, &status, 0), "waitpid");
  if (status != 0) give_up("what another process sets up");
}

}  // namespace godwit::workloads
