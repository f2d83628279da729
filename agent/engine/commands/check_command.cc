#include "agent/engine/commands/check_command.h"

#include "agent/engine/tasks/refusals.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/waiting.h"
#include "common/proc/mountinfo.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <string>

#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine::commands {
namespace {

// A call that is not there says ENOSYS, and one that a filter keeps from us mostly EPERM; any other answer to senseless
// arguments will do.
bool has_call(long number, long a = -1, long b = -1, long c = -1) {
  return ::syscall(number, a, b, c, -1, -1) >= 0 || (errno != ENOSYS && errno != EPERM);
}

bool root() { return ::geteuid() == 0; }

bool pidfd_getfd_works() {
  const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self) return false;
  const UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, self.get(), 2, 0)));
  return static_cast<bool>(copy);
}

// Also those that are not ours to look at: with CAP_SYS_PTRACE, and as far as a security module lets us.
bool may_trace() {
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    ::prctl(PR_SET_DUMPABLE, 0);
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, WUNTRACED);
  const bool seized = ::ptrace(PTRACE_SEIZE, child, nullptr, nullptr) == 0;
  ::kill(child, SIGKILL);
  wait_for_child(child);
  return seized;
}

// PIDs that nobody has are mostly free; a taken one proves as much.
bool set_tid_works() {
  pid_t wanted = static_cast<pid_t>(std::stol(read_file("/proc/sys/kernel/pid_max"))) - 1;
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) ::_exit(0);
  if (child < 0) return errno == EEXIST;
  ::waitpid(static_cast<pid_t>(child), nullptr, 0);
  return child == wanted;
}

bool kcmp_works() { return ::syscall(SYS_kcmp, ::getpid(), ::getpid(), KCMP_FILE, 2, 2) == 0; }

bool set_mm_map_works() {
  unsigned size = 0;
  return ::prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0 && size > 0;
}

// Its links lead nowhere without CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
bool map_files_are_open() {
  const std::filesystem::directory_iterator files("/proc/self/map_files");
  return files != std::filesystem::directory_iterator() && ::access(files->path().c_str(), R_OK) == 0;
}

bool tracks() { return tasks::tracker_backend() != "none"; }

bool freezer_there() {
  for (const proc::Mount& m : proc::parse_mountinfo(read_file("/proc/self/mountinfo")))
    if (m.type == "cgroup2") return true;
  return false;
}

bool timer_ids_settable() {
  constexpr int timer_create_restore_ids = 77, get = 2;  // 6.15+
  return ::prctl(timer_create_restore_ids, get, 0, 0, 0) >= 0;
}

struct Feature {
  const char* what;
  bool (*works)();
  bool needed;
  const char* without;
};

constexpr std::array features{
    Feature{"root", root, true, "nothing works"},
    Feature{"tracing of other processes", may_trace, true, "they cannot be looked at"},
    Feature{"pidfd_getfd (5.6)", pidfd_getfd_works, true, "descriptors cannot be looked at"},
    Feature{"kcmp", kcmp_works, true, "shared descriptors are not found"},
    Feature{"clone3 with set_tid (5.5)", set_tid_works, true, "PIDs cannot be kept"},
    Feature{"PR_SET_MM_MAP", set_mm_map_works, true, "the bounds of memory cannot be restored"},
    Feature{"/proc/PID/map_files", map_files_are_open, true, "mapped files cannot be looked at"},
    Feature{"tracking of written pages (userfaultfd and PAGEMAP_SCAN, 6.7)", tracks, false, "every dump is whole"},
    Feature{"control groups v2", freezer_there, false, "no live migration"},
    Feature{"time namespaces (5.6)", [] { return ::access("/proc/self/ns/time", F_OK) == 0; }, false,
            "clocks go on with this host's"},
    Feature{"openat2 (5.6)", [] { return has_call(SYS_openat2); }, true, "images cannot be opened safely"},
    Feature{"numbered POSIX timers (6.15)", timer_ids_settable, false, "timers are numbered by making and deleting"},
};

// What cannot be found out is not there: as a rule a part of /proc that this container has not.
bool is_there(const Feature& f) {
  try {
    return f.works();
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

int run_check(const Options&) {
  std::string missing;
  for (const Feature& f : features) {
    const bool there = is_there(f);
    std::printf("%-66s %s\n", f.what, there ? "yes" : fmt::format("no: {}", f.without).c_str());
    if (!there && f.needed) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", f.what);
  }
  if (missing.empty()) {
    std::puts("Looks good.");
    return 0;
  }
  std::fflush(stdout);
  throw Error(Errc::kernel_missing, fmt::format("this host lacks {}", missing), "be root, on Linux 6.7 or later");
}

}  // namespace godwit::engine::commands
