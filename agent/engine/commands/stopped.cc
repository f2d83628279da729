#include "agent/engine/commands/stopped.h"

#include "agent/engine/commands/guardian.h"
#include "agent/engine/ptrace/run_directory.h"
#include "agent/engine/ptrace/call_notes.h"
#include "agent/engine/ptrace/held_tree.h"
#include "agent/engine/ptrace/killed.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/waiting.h"
#include "common/proc/reader.h"

#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <vector>

#include <poll.h>
#include <sys/syscall.h>

namespace godwit::engine::commands {
namespace {

constexpr int patience_ms = 5000;             // for a stop that has been asked for
constexpr std::uint64_t not_written = ~0ull;  // what a note has for a number while there is only room for it

std::filesystem::path note_of(pid_t pid, std::uint64_t start_time) { return run_file(pid, start_time, "stopped"); }

bool all_stopped(const proc::Reader& proc, pid_t pid) {
  for (const pid_t tid : proc.threads())
    if (proc::Reader(pid, tid).status().state != 'T') return false;
  return true;
}

// How often its threads have been taken off a CPU: a stopped process adds nothing to it.
std::uint64_t switches_of(const proc::Reader& proc, pid_t pid) {
  std::uint64_t sum = 0;
  for (const pid_t tid : proc.threads()) sum += proc::parse_context_switches(proc::Reader(pid, tid).text("status"));
  return sum;
}

Stopped read_note(const std::filesystem::path& path, pid_t pid) {
  if (!std::filesystem::exists(path))
    throw Error(Errc::refused, fmt::format("process {} was not left stopped by a dump", pid),
                "godwit dump --leave-stopped leaves one; use kill(1) for any other");
  return parse_stopped_note(read_file(path, 4096));
}

// Always as long, and in the place of the one before: where there is one, there is room for another.
void write_note(const std::filesystem::path& path, const Stopped& note) {
  const UniqueFd file = open_file(path, O_WRONLY | O_CREAT, 0600);
  const Doing doing("write {}", path.string());
  write_all(file.get(), fmt::format("{} {:>20} {}\n", note.generation, note.switches, note.by_others ? 1 : 0));
}

// Waits until all threads are in the stop.
void note_stopped(pid_t pid, Stopped note) {
  const proc::Reader proc(pid);
  for (int waited = 0; !all_stopped(proc, pid); waited++) {
    if (waited == patience_ms) fail(Errc::timed_out, "process {} does not stop", pid);
    ::usleep(1000);
  }
  note.switches = switches_of(proc, pid);
  write_note(note_of(pid, proc.stat().start_time), note);
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

// Nothing when it is not in the stop of an earlier dump.
std::optional<Stopped> fitting_note(pid_t pid) {
  try {
    const proc::Reader proc(pid);
    require_stopped(pid, proc);
    return read_note(note_of(pid, proc.stat().start_time), pid);
  } catch (const Error& e) {
    if (e.errc() != Errc::refused) throw;
    return std::nullopt;
  }
}

}  // namespace

Stopped parse_stopped_note(const std::string& text) {
  std::istringstream words(text);
  Stopped note;
  if (!(words >> note.generation >> note.switches >> note.by_others))
    fail(Errc::image_corrupt, "the note of the dump that left the process stopped is damaged");
  return note;
}

StopNotes::~StopNotes() {
  for (const auto& [pid, note] : unwritten_) ::unlink(note.c_str());
}

void StopNotes::make_room(pid_t pid) {
  const std::filesystem::path note = note_of(pid, proc::Reader(pid).stat().start_time);
  if (std::filesystem::exists(note)) return;  // an earlier dump's, which counts until this one has succeeded
  unwritten_.emplace(pid, note);
  write_note(note, {.generation = generation_, .switches = not_written});
}

void StopNotes::write(pid_t pid, StoppedBy by) {
  note_stopped(pid, {.generation = generation_, .by_others = by == StoppedBy::others});
  unwritten_.erase(pid);
}

NotesBefore::NotesBefore(pid_t root) : root_(root) {
  for_each_member([&](pid_t pid, std::uint64_t start_time) {
    if (auto note = fitting_note(pid)) stopped_[{pid, start_time}] = std::move(*note);
  });
}

void NotesBefore::put_back() const {
  for_each_member([&](pid_t pid, std::uint64_t start_time) {
    const std::filesystem::path note = note_of(pid, start_time);
    if (std::filesystem::exists(note) && read_note(note, pid).switches == not_written) std::filesystem::remove(note);
    if (const auto before = stopped_.find({pid, start_time}); before != stopped_.end())
      note_stopped(pid, before->second);
  });
}

// What keeps one from it, its end for one, keeps no other.
void NotesBefore::for_each_member(const std::function<void(pid_t, std::uint64_t)>& action) const {
  const auto attempt = [](const auto& what) {
    try {
      what();
    } catch (const Error& e) {
      log::debug("dump.note", {{"message", e.message()}});
    }
  };
  attempt([&] {
    for (const TreeMember& m : tree_of(root_, Orphans::left_out))
      attempt([&] { action(m.pid, proc::Reader(m.pid).stat().start_time); });
  });
}

void note_again(pid_t pid) {
  const proc::Reader proc(pid);
  note_stopped(pid, read_note(note_of(pid, proc.stat().start_time), pid));
}

bool left_stopped(pid_t pid) {
  const auto note = fitting_note(pid);
  return note && !note->by_others;
}

namespace {

// A tree that a dump has left stopped, each process checked.
struct StoppedTree {
  struct Member {
    pid_t pid = 0;
    UniqueFd pidfd;
    std::uint64_t start_time = 0;
    std::filesystem::path note;
    Stopped stopped;
  };
  explicit StoppedTree(pid_t root) {
    for (const TreeMember& m : tree_of(root, Orphans::left_out)) {
      if (m.dead && m.pid != root) continue;
      const proc::Reader proc(m.pid);
      const std::uint64_t start_time = proc.stat().start_time;
      const std::filesystem::path note = note_of(m.pid, start_time);
      UniqueFd pidfd = require_stopped(m.pid, proc);
      members.push_back({m.pid, std::move(pidfd), start_time, note, read_note(note, m.pid)});
    }
  }
  std::vector<Member> members;  // the root first
};

}  // namespace

int run_kill(const Options& o) {
  const StoppedTree tree(o.tree);
  for (const auto& m : tree.members)
    check(::syscall(SYS_pidfd_send_signal, m.pidfd.get(), SIGKILL, nullptr, 0), "kill process {}", m.pid);
  for (const auto& m : tree.members) {
    try {
      wait_ready(m.pidfd.get(), POLLIN, Clock::now() + killed_ends_within, "wait for its end");
    } catch (const Error& e) {
      if (e.errc() != Errc::timed_out) throw;
      throw Error(Errc::timed_out, fmt::format("process {}, which has been killed, did not end", m.pid),
                  "what it waits for in the kernel is in /proc/PID/wchan");
    }
  }
  for (const auto& m : tree.members) forget_process(m.pid, m.start_time);
  log::info("kill.done", {{"pid", o.tree}});
  return 0;
}

int run_resume(const Options& o) {
  const StoppedTree tree(o.tree);
  // Held and released, so that no handler of SIGCONT runs: the processes are not to notice.
  Guardian guardian([&] {  // what was put back has run for that
    for (const auto& m : tree.members) note_stopped(m.pid, m.stopped);
  });
  std::map<pid_t, InterruptedCalls> calls;
  HeldTree held(o.tree, Orphans::left_out, guardian.journal(),
                [&](pid_t pid) -> InterruptedCalls& { return calls[pid]; }, {});
  std::set<pid_t> ours;
  for (const auto& m : tree.members)
    if (!m.stopped.by_others) ours.insert(m.pid);
  held.let_run(ours);
  for (const auto& m : tree.members) std::filesystem::remove(m.note);
  log::info("resume.done", {{"pid", o.tree}});
  return 0;
}

}  // namespace godwit::engine::commands
