#include "agent/engine/ptrace/recover.h"

#include "agent/engine/ptrace/cgroup.h"
#include "agent/engine/ptrace/kept_signals.h"
#include "agent/engine/ptrace/tracing.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <exception>
#include <optional>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

bool same_process(const Journal::Process& journal) {
  try {
    return proc::Reader(journal.pid()).stat().start_time == journal.start_time();
  } catch (const Error&) {
    return false;
  }
}

void move_back(const ThreadRecord& thread) {
  if (thread.pinned) ::syscall(SYS_sched_setaffinity, thread.tid, thread.affinity.size(), thread.affinity.data());
}

void put_back(const ThreadRecord& thread) {
  if (thread.borrowed) set_regs(thread.tid, thread.regs);
  move_back(thread);
}

// Whoever stands in the scratch leaves it first, and the leader, who unmaps it, last.
void put_back(Journal::Process& journal, std::span<const pid_t> tids, FinishInterrupted finish) {
  const auto is_there = [&](const ThreadRecord& t) { return std::ranges::find(tids, t.tid) != tids.end(); };
  if (journal.phase() == HoldPhase::stopping) {
    for (const ThreadRecord& t : journal.threads())
      if (is_there(t)) move_back(t);
  }
  if (journal.phase() != HoldPhase::held) return;
  for (const pid_t tid : tids) set_sigmask(tid, all_signals);
  std::optional<ThreadRecord> first;
  for (const ThreadRecord& t : journal.threads()) {
    if (!is_there(t)) continue;
    if (t.tid == journal.pid())
      first = t;
    else
      put_back(t);
  }
  if (const RemoteAddr scratch = journal.scratch_address(); raw(scratch)) {
    suspend_filters(journal.pid(), journal.pid());
    RemoteSyscalls leader(journal.pid(), journal.pid(), RemoteAddr{journal.syscall_instruction()});
    if (first) leader.set_saved(first->regs);
    finish(journal, leader);
    leader.attempt(SYS_munmap, scratch, ScratchLayout::size);  // it may not have come to be
    fault::point("engine.recover.unmapped");
    journal.scratch_gone();
  }
  if (first) put_back(*first);
}

// A tracer that dies closes its sockets, by which others know that it has, before it lets go of whom it traces.
void wait_untraced(pid_t pid) {
  for (int waited_ms = 0; proc::Reader(pid).status().tracer_pid != 0 && waited_ms < 5000; waited_ms++) ::usleep(1000);
}

// Everything back; seized still, and its threads are returned.
std::vector<pid_t> put_back(Journal::Process& journal, FinishInterrupted finish) {
  const pid_t pid = journal.pid();
  Doing doing("putting back what was borrowed from process {}", pid);
  wait_untraced(pid);
  const std::vector<pid_t> tids = seize_threads(pid, PTRACE_O_TRACESYSGOOD, StopLimit(std::chrono::seconds(5)));
  std::vector<std::pair<pid_t, std::uint64_t>> masks;
  for (const pid_t tid : tids) masks.emplace_back(tid, get_sigmask(tid));
  for (const ThreadRecord& t : journal.threads())
    for (auto& [tid, mask] : masks)
      if (tid == t.tid && t.borrowed) mask = t.sigmask;
  put_back(journal, tids, finish);
  journal.releasing();
  if (!journal.was_stopped()) {
    for (const pid_t tid : tids) set_sigmask(tid, all_signals);
    keep_pending(journal, pid, tids, continue_signal | stop_signals);
    swallow_sigcont(pid, pid);
    queue_again(pid, journal.kept());
  }
  for (const auto& [tid, mask] : masks) set_sigmask(tid, mask);
  return tids;
}

}  // namespace

void recover(Journal& journal, const std::string& cgroup_path, bool release, FinishInterrupted finish) {
  const bool frozen = !cgroup_path.empty() && Cgroup(cgroup_path).asked_to_freeze();
  std::vector<Journal::Process> borrowed = journal.borrowed();
  std::ranges::reverse(borrowed);  // children before parents, which are not to see them stopped
  // The freeze is asked for when nothing is borrowed any more.
  if (frozen) {
    if (release) Cgroup(cgroup_path).thaw();
    for (Journal::Process& p : borrowed) p.end();
    return;
  }
  std::vector<std::pair<Journal::Process, std::vector<pid_t>>> seized;
  std::exception_ptr failure;  // of one that then stays in the journal; the others are put back all the same
  for (Journal::Process& p : borrowed) {
    try {
      if (same_process(p)) {
        seized.emplace_back(p, put_back(p, finish));
        if (release) detach_threads(seized.back().second);
      }
      if (release) p.end();
    } catch (const Error& e) {
      if (e.errc() == Errc::target_gone)
        p.end();
      else if (!failure)
        failure = std::current_exception();
    }
  }
  if (!release) {
    if (!cgroup_path.empty() && !seized.empty()) Cgroup(cgroup_path).freeze();
    for (const auto& [p, tids] : seized) detach_threads(tids);
    if (!failure)
      for (Journal::Process& p : borrowed) p.end();
  }
  for (const auto& [p, tids] : seized)
    log::info("recover.done", {{"pid", p.pid()}, {"threads", tids.size()}, {"released", release}});
  if (failure) std::rethrow_exception(failure);
}

}  // namespace godwit::engine
