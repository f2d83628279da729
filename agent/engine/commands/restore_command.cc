#include "agent/engine/commands/restore_command.h"

#include "agent/engine/commands/command_line.h"
#include "agent/engine/commands/freed_images.h"
#include "agent/engine/commands/job_control.h"
#include "agent/engine/commands/pid_namespace.h"
#include "agent/engine/commands/places.h"
#include "agent/engine/commands/restore_checks.h"
#include "agent/engine/commands/stats.h"
#include "agent/engine/restore.h"
#include "common/base/log.h"
#include "common/base/waiting.h"
#include "common/commandline/actions.h"

#include <csignal>
#include <vector>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::commands {
namespace {

// Orphans come to us: what is restored becomes our child when its helper ends, and can be waited for.
void adopt_orphans() { check(::prctl(PR_SET_CHILD_SUBREAPER, 1), "become a subreaper"); }

int wait_for(pid_t pid) {
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended < 0 && errno == EINTR) continue;
    check(ended, "wait for process {}", pid);
    if (ended != pid) continue;  // an orphan of it
    return shell_status(status);
  }
}

}  // namespace

int run_restore(const Options& o) {
  check_status(o);
  const Places places = open_places(o, Missing::fails);
  const RunAction act = run_scripts(o.action_scripts, places.images_path);
  std::optional<PidNamespace> space;        // outlives the processes in it: it ends when they have been waited for
  std::optional<CallersTerminal> terminal;  // as it was, unless all goes well
  Restore restore({});
  check_before_restore(restore.load(places.images.get()), places.images.get(), o);
  act("pre-restore", 0);
  if (o.namespaces) {
    space.emplace();
    restore.set_init(space->init());
    act("setup-namespaces", space->host_pid());
    act("post-setup-namespaces", space->host_pid());
  }
  ShellJob job;
  if (o.shell_job) {
    job = shell_job_of(restore.images());
    if (job.terminal >= 0) terminal.emplace(STDIN_FILENO);
    restore.make_shell_job(job, terminal ? &*terminal : nullptr);
  }
  if (o.sibling) restore.make_sibling();
  if (o.leave_stopped) restore.leave_stopped();
  if (o.tcp_close) restore.close_connections();
  if (!o.detached && !space) adopt_orphans();
  const UniqueFd pidfile = o.pidfile.empty() ? UniqueFd() : open_beside(places, o.pidfile);
  pid_t pid = 0;
  // As with CRIU, what fails from here on is too late to matter.
  const auto tell = [&](std::string_view action) {
    try {
      act(action, pid);
    } catch (const Error& e) {
      log::warn("action.failed", {{"action", action}, {"error", e.message()}});
    }
  };
  Restore::JobGroups groups;
  std::uint64_t pages = 0;
  Prepared prepared;
  std::optional<FreedImages> freed;
  DirectoryPages::Frees frees;
  if (o.auto_dedup) {
    freed.emplace(names_of_chain(places), ids_of(read_tree(restore.images())));
    frees = [&](std::size_t level) { freed->add(level); };
  }
  try {
    pages = restore.absorb_directory(places.images.get(), frees);
    prepared = restore.finish([&](pid_t restored) {
      pid = restored;
      if (pidfile) write_anew(pidfile, fmt::format("{}\n", pid));
      act("post-restore", pid);
      tell("pre-resume");
      if (!job.controlled) return;
      groups = restore.job_groups();
      if (!o.detached) leave_keyboard_to_job();
      terminal->hand_over(groups.front);
    });
  } catch (...) {
    if (freed) freed->say();
    throw;
  }
  freed.reset();
  if (terminal) terminal->keep();
  if (space) space->complete(prepared.tasks(0).guest_pid());
  tell("post-resume");
  constexpr std::string_view done = "the process is restored";
  afterwards(done, [&] { write_stats(places, prepared, pages); });
  for (const Step& s : prepared.steps())
    log::info("restore.step", {{"name", s.name()}, {"us", s.nanoseconds() / 1000}});
  log::info("restore.done", {{"pid", pid}, {"pages", pages}});
  afterwards(done, [&] { say_ready(o); });
  if (o.detached) {
    if (space) space->leave();
    return 0;
  }
  if (job.controlled) return wait_as_job(pid, groups.root, groups.front, *terminal);
  return space ? space->wait() : wait_for(pid);
}

}  // namespace godwit::engine::commands
