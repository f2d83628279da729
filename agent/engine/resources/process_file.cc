#include "agent/engine/resources/process_file.h"

#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/pidfd.h"
#include "common/base/waiting.h"
#include "common/proc/exit_status.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include <sys/resource.h>
#include <sys/wait.h>

namespace godwit::engine::resources::process_file {
namespace {

constexpr pid_t reaped = -1;  // as fdinfo has it, and CRIU's images

// Also a thread. One that has gone since the descriptor was looked at was waited for, by somebody of the tree or not.
// In a freeze nobody of it can have done that.
bool in_tree(pid_t pid, const SurveyContext& context) {
  const auto has = [&](pid_t one) { return std::ranges::find(context.tree, one) != context.tree.end(); };
  if (has(pid)) return true;
  try {
    const proc::Reader proc(pid);
    const proc::Stat stat = proc.stat();
    return has(proc.status().tgid) || (stat.state == 'Z' && has(stat.ppid));
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
    if (context.frozen) fail(Errc::busy, "process {}, which a pidfd stands for, has just ended", pid);
    return true;
  }
}

// How a process can have ended: the images are not to be trusted.
bool is_an_end(int status) {
  if (WIFEXITED(status)) return true;
  switch (WTERMSIG(status)) {
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
    case SIGCONT: return false;
    default: return WIFSIGNALED(status) && WTERMSIG(status) <= SIGRTMAX;
  }
}

[[noreturn]] void end_as(int status) {
  const int signal = WTERMSIG(status);
  if (!WIFSIGNALED(status)) ::_exit(WEXITSTATUS(status));
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::signal(signal, SIG_DFL);
  sigset_t mask;
  sigemptyset(&mask);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  ::raise(signal);
  ::_exit(1);
}

// Of a process that ends, and is waited for, as that one did. A thread is like the only one of such a process.
UniqueFd open_reaped(int status, unsigned flags) {
  auto [opened, opening] = make_pipe();
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    opening.reset();
    std::byte none{};
    (void)::read(opened.get(), &none, 1);
    end_as(status);
  }
  UniqueFd fd(pidfd_open(child, flags));
  const int error_number = errno;
  opening.reset();
  wait_for_child(child);
  if (!fd) throw syscall_error(error_number, "open a process");
  return fd;
}

}  // namespace

bool matches(const FdView& view) {
  return view.info.pidfd && (view.link == "anon_inode:[pidfd]" || view.link.starts_with("pidfd:"));
}

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  const pid_t pid = view.info.pidfd.value().pid;
  if (pid == reaped || (pid != 0 && in_tree(pid, context))) return std::nullopt;
  return Refusal{view.describe(),
                 pid == 0 ? "the process that it stands for is not one of those that move"
                          : fmt::format("it stands for process {}, which is not one of those that move", pid),
                 "close it before the move"};
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  const proc::PidfdInfo& process = view.info.pidfd.value();
  image::PidfdEntry& file = *entry.mutable_pidfd();
  file.set_id(entry.id());
  file.set_ino(static_cast<std::uint32_t>(view.st.st_ino));
  file.set_flags(view.flags() & ~O_RDWR);  // CRIU opens it with them, and the kernel takes no other mode
  file.set_nspid(process.pid == reaped ? reaped : proc::at_level(process.ns_pid, context.level, process.pid));
  *file.mutable_fown() = dump_fown(view.fd);
  if (process.pid == reaped) file.set_exit_status(proc::exit_status(view.fd).value_or(0));
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  const image::PidfdEntry& file = entry.pidfd();
  const unsigned flags = file.flags() & pidfd_of_thread;
  if (file.nspid() == reaped) {
    if (!is_an_end(file.exit_status()))
      fail(Errc::image_corrupt, "no process ends with status {:#x}", file.exit_status());
    return open_reaped(file.exit_status(), flags);
  }
  if (file.nspid() <= 0) fail(Errc::image_corrupt, "a pidfd of process {}", file.nspid());
  return UniqueFd(check(pidfd_open(file.nspid(), flags), "open process {}", file.nspid()));
}

std::optional<pid_t> thread_of(const image::FileEntry& entry) {
  if (!entry.has_pidfd() || !(entry.pidfd().flags() & pidfd_of_thread) || entry.pidfd().nspid() == reaped)
    return std::nullopt;
  return entry.pidfd().nspid();
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::process_file
