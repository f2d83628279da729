// Starting the init of a workload's namespaces (init_main.cc), with the workload or waiting for a restored one.
//
// The init lives in PID, mount and IPC namespaces of its own, in the cgroup of the inits, and belongs to nobody:
// it survives the agent, which finds it again by PID and start time. Killing it ends everything in its PID
// namespace. Starting takes milliseconds, but what it waits for is another program: the loop goes on meanwhile. Errors:
// what the kernel or exec said, timed_out; then nothing of it is left.
#pragma once

#include "agent/workload/cgroup.h"
#include "agent/workload/spawn.h"
#include "common/net/async.h"

namespace godwit::workload {

struct Init {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  UniqueFd pidfd;
};

struct InitPlace {
  std::string program;                               // godwit-init
  int cgroup = -1;                                   // of the inits
  std::string exit_path;                             // how the root task ended is written there: "exit N" or "signal N"
  Clock::duration limit = std::chrono::seconds(10);  // until the workload's program has been executed
};

struct RunPlan {
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::string directory = "/";
  std::string output;  // appended to; made when missing
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

struct Started {
  Init init;
  pid_t root = 0;  // as seen here; 0: it has ended already
  GuestPid guest{};
};

net::awaitable<Started> start_workload(InitPlace place, const Cgroup& copy, RunPlan plan);

// For a workload that will be restored inside. `complete` tells the init that it now is.
net::awaitable<Init> start_waiting_init(InitPlace place, GuestPid root);
void complete(const Init& init);

// What an exit file says, as a shell would: 0..255, 128 + signal, -1 when nothing was written.
int read_exit_code(const std::string& exit_path);
int parse_exit_code(const std::string& text);

// What the init has said until the workload's program was executed: the PID of the root task, or why there is none
// (Errc::invalid_argument).
GuestPid parse_report(const std::string& text);

}  // namespace godwit::workload
