#include "agent/engine/commands/stopped.h"

#include "agent/engine/commands/guardian.h"
#include "agent/engine/holder/place.h"
#include "agent/engine/ptrace/hold.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <csignal>
#include <filesystem>
#include <sstream>

#include <poll.h>
#include <sys/syscall.h>

namespace godwit::engine::commands {
namespace {

constexpr int patience_ms = 5000;  // for a stop or an end that has been asked for

struct Stopped {
  std::string generation;
  std::uint64_t switches = 0;
};

std::filesystem::path note_of(pid_t pid, std::uint64_t start_time) {
  return holder::run_file(pid, start_time, "stopped");
}

bool all_stopped(const proc::Reader& proc, pid_t pid) {
  for (const pid_t tid : proc.threads())
    if (proc::Reader(pid, tid).status().state != 'T') return false;
  return true;
}

// How often its threads have been taken off a CPU: a stopped process adds nothing to it.
std::uint64_t switches_of(const proc::Reader& proc, pid_t pid) {
  std::uint64_t sum = 0;
  for (const pid_t tid : proc.threads()) {
    std::istringstream lines(proc::Reader(pid, tid).text("status"));
    for (std::string word; lines >> word;)
      if (word == "voluntary_ctxt_switches:" || word == "nonvoluntary_ctxt_switches:") {
        std::uint64_t n = 0;
        lines >> n;
        sum += n;
      }
  }
  return sum;
}

Stopped read_note(const std::filesystem::path& path, pid_t pid) {
  if (!std::filesystem::exists(path))
    throw Error(Errc::refused, fmt::format("process {} was not left stopped by a dump", pid),
                "godwit dump --leave-stopped leaves one; use kill(1) for any other");
  std::istringstream text(read_file(path, 4096));
  Stopped note;
  text >> note.generation >> note.switches;
  return note;
}

// The process of the note, checked. The pidfd pins it: what is checked is what is ended.
UniqueFd require_stopped(pid_t pid, const proc::Reader& proc) {
  UniqueFd pidfd(static_cast<int>(check(::syscall(SYS_pidfd_open, pid, 0), "open process {}", pid)));
  const Stopped note = read_note(note_of(pid, proc.stat().start_time), pid);
  if (!all_stopped(proc, pid)) fail(Errc::refused, "process {} ({}) is not stopped any more", pid, proc.comm());
  if (switches_of(proc, pid) != note.switches)
    fail(Errc::refused, "process {} ({}) has run since it was dumped", pid, proc.comm());
  return pidfd;
}

}  // namespace

void note_stopped(pid_t pid, const std::string& generation) {
  const proc::Reader proc(pid);
  for (int waited = 0; !all_stopped(proc, pid); waited++) {
    if (waited == patience_ms) fail(Errc::timed_out, "process {} does not stop", pid);
    ::usleep(1000);
  }
  write_file(note_of(pid, proc.stat().start_time), fmt::format("{} {}\n", generation, switches_of(proc, pid)));
}

bool left_stopped(pid_t pid) {
  try {
    require_stopped(pid, proc::Reader(pid));
    return true;
  } catch (const Error& e) {
    if (e.errc() != Errc::refused) throw;
    return false;
  }
}

int run_kill(const Options& o) {
  const proc::Reader proc(o.tree);
  const std::filesystem::path note = note_of(o.tree, proc.stat().start_time);
  const UniqueFd pidfd = require_stopped(o.tree, proc);
  check(::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0), "kill process {}", o.tree);
  pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ended, 1, patience_ms) != 1) fail(Errc::timed_out, "process {} did not end", o.tree);
  std::filesystem::remove(note);
  log::info("kill.done", {{"pid", o.tree}});
  return 0;
}

int run_resume(const Options& o) {
  const proc::Reader proc(o.tree);
  const std::filesystem::path note = note_of(o.tree, proc.stat().start_time);
  require_stopped(o.tree, proc);
  const std::string generation = read_note(note, o.tree).generation;
  // Held and released, so that no handler of SIGCONT runs: the process is not to notice.
  Guardian guardian([&] { note_stopped(o.tree, generation); });  // what was put back has run for that
  InterruptedCalls calls;
  Hold hold(o.tree, guardian.journal(), calls);
  hold.let_run();
  std::filesystem::remove(note);
  log::info("resume.done", {{"pid", o.tree}});
  return 0;
}

}  // namespace godwit::engine::commands
