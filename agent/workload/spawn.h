// Starts a program as a process that owes this one nothing: own session, default signals, only the descriptors
// named, optionally straight into a cgroup and into namespaces of its own.
//
// Nothing is set that a workload could inherit: no limits, no no_new_privs, no pdeathsig. The process survives
// this one; whoever wants it dead kills it. Errors: what exec said (not_found, ...), known when this returns.
#pragma once

#include "common/base/fd.h"

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::workload {

struct SpawnPlan {
  std::string program;
  std::vector<std::string> arguments;    // without the name of the program
  std::vector<std::string> environment;  // NAME=VALUE, all of it
  std::vector<int> fds;                  // become 3, 4, ... there
  int output = -1;                       // becomes 1 and 2; -1: ours
  int cgroup = -1;                       // directory; -1: ours
  std::uint64_t namespaces = 0;          // CLONE_NEW*
};

struct Child {
  pid_t pid = 0;
  UniqueFd pidfd;
};

Child spawn(const SpawnPlan& plan);

// Collects a child that has ended, so that no zombie stays; harmless when it was collected or is none of ours.
void reap(int pidfd);

void send_signal(int pidfd, int signal);  // one that has ended is ignored

// The process of this PID that started at this time (clock ticks since boot); an empty fd when it is gone.
UniqueFd find_process(pid_t pid, std::uint64_t start_time);
std::uint64_t start_time_of(pid_t pid);

// A program that lies beside this one, as an absolute path.
std::string sibling_program(const std::string& name);

}  // namespace godwit::workload
