#include "agent/engine/tasks/witnesses.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::tasks {
namespace {

bool kernel_has_landlock() {
  constexpr long create_ruleset = 444, ask_version = 1;
  return ::syscall(create_ruleset, nullptr, 0, ask_version) > 0;
}

// In the child. It must not become more than the thread is, not even for somebody who would take it over: all that the
// engine has is gone before it lets itself be looked at. Raw calls, of a copy of a process with threads.
[[noreturn]] void bear_witness(int pidfd, int root, uid_t user, gid_t group) {
  constexpr int place = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWCGROUP;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2]{};
  const bool ready = ::setns(pidfd, place) == 0 && ::fchdir(root) == 0 && ::chroot(".") == 0 &&
                     ::syscall(SYS_close_range, 0, ~0u, 0) == 0 && ::syscall(SYS_setgroups, 0, nullptr) == 0 &&
                     ::syscall(SYS_setresgid, group, group, group) == 0 &&
                     ::syscall(SYS_setresuid, user, user, user) == 0 && ::syscall(SYS_capset, &header, none) == 0 &&
                     ::prctl(PR_SET_DUMPABLE, 1) == 0;
  for (;;) ::syscall(SYS_exit_group, ready ? 0 : 1);
}

// A child in the PID namespace that `theirs` is.
pid_t fork_into(int theirs, int pidfd, int root, uid_t user, gid_t group) {
  const UniqueFd ours = open_file("/proc/thread-self/ns/pid", O_RDONLY);
  check(::setns(theirs, CLONE_NEWPID), "enter a PID namespace");
  clone_args arguments{};  // nobody is told of its end
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) bear_witness(pidfd, root, user, group);
  const int error = errno;
  check(::setns(ours.get(), CLONE_NEWPID), "return to our PID namespace");
  if (child < 0) throw syscall_error(error, "fork a witness");
  return static_cast<pid_t>(child);
}

bool has_ended_well(pid_t child) {
  siginfo_t info{};
  check(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT | __WALL), "wait for a witness");
  return info.si_code == CLD_EXITED && info.si_status == 0;
}

}  // namespace

Witnesses::Witnesses(pid_t pid) {
  if (!kernel_has_landlock()) return;
  try {
    const proc::Reader proc(pid);
    const UniqueFd pidfd(static_cast<int>(check(::syscall(SYS_pidfd_open, pid, 0), "open process {}", pid)));
    const UniqueFd pids = proc.open("ns/pid", O_RDONLY);
    const UniqueFd root = proc.open("root", O_PATH | O_DIRECTORY);
    for (const pid_t tid : proc.threads()) {
      const proc::Status status = proc::Reader(pid, tid).status();
      const Ids ids{status.uid.real, status.gid.real};
      if (!witnesses_.contains(ids)) {
        Witness& made = witnesses_[ids];
        made.host = fork_into(pids.get(), pidfd.get(), root.get(), ids.first, ids.second);
        if (has_ended_well(made.host)) made.guest = proc::innermost(proc::Reader(made.host).status().ns_pid, made.host);
      }
      by_thread_[tid] = witnesses_[ids].guest;
    }
  } catch (const Error&) {  // a thread, or all of it, is ending: whoever stops it finds out
  }
}

Witnesses::~Witnesses() {
  for (const auto& [ids, witness] : witnesses_)
    if (witness.host) ::waitpid(witness.host, nullptr, __WALL);
}

pid_t Witnesses::of(pid_t tid) const {
  const auto found = by_thread_.find(tid);
  return found == by_thread_.end() ? 0 : found->second;
}

}  // namespace godwit::engine::tasks
