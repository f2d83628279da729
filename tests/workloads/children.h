#pragma once
// Child processes of a workload that check themselves, too. A child tells its parent by the way it ends whether it has
// found something, and leaves its first complaint in a file, so that the workload's result has it.

#include "tests/workloads/workload.h"

#include <string>
#include <sys/prctl.h>
#include <unistd.h>

namespace godwit::workloads {

struct Child {
  pid_t pid;
  std::string name;  // of its own in the whole workload
  int code;          // its exit status when it has nothing to complain of
};

// In the child.
void begin_child(pid_t parent);
[[noreturn]] void end_child(Workload& w, const std::string& name, int code);
void settled(Workload& w, const std::string& name);  // it has set up what it checks

// fork() with these flags of clone(2).
pid_t fork_sharing(int flags);

// A child that does `body` and ends. It is killed when its parent ends before it. `shared`: what it has in common with
// its parent, CLONE_FILES or CLONE_FS.
template <class Body>
Child start_child(Workload& w, const std::string& name, int code, Body body, int shared = 0) {
  const pid_t parent = getpid();
  const pid_t pid = must(fork_sharing(shared), "fork");
  if (pid == 0) {
    begin_child(parent);
    body();
    end_child(w, name, code);
  }
  return {pid, name, code};
}

// Until somebody, in this process or another, has told `name`.
void await(Workload& w, const std::string& name);
void await_settled(Workload& w, const std::string& name);

// Waits for the child's end and takes over its complaint.
void check_end(Workload& w, const Child& child);
std::string how_it_ended(int status);

}  // namespace godwit::workloads
