#include "agent/engine/commands/dump_command.h"

#include "agent/engine/commands/command_line.h"
#include "agent/engine/commands/dedup_command.h"
#include "agent/engine/commands/guardian.h"
#include "agent/engine/commands/stopped.h"
#include "agent/engine/commands/tracked_dump.h"
#include "agent/engine/holder/client.h"
#include "common/base/log.h"
#include "common/image/generation.h"

namespace godwit::engine::commands {
namespace {

// Who knows, or will have to know, what changes between this dump and another one.
std::optional<holder::Client> tracker_for(const Options& o) {
  const bool goes_on = o.leave_running || o.leave_stopped;
  if (o.command == "pre-dump" || (o.track_memory && goes_on)) return holder::Client::find_or_start(o.tree);
  if (!o.previous.empty()) return holder::Client::find(o.tree);
  return std::nullopt;
}

bool has_inventory(const Places& places) {
  try {
    return image::generation_of(places.images.get()).has_value();
  } catch (const Error&) {  // half written
    return false;
  }
}

// Of what a holder that was killed has left behind, nobody else says that it is of no use. A set with its inventory was
// finished, or not begun anew.
void say_unfinished(const Options& o, const Places& places) {
  if (has_inventory(places)) return;
  mark_unusable(places);
  std::vector<std::string> chain = names_of_chain(places);
  chain.erase(chain.begin());
  if (!o.auto_dedup || o.page_server.use || chain.empty()) return;
  log::error("dump.parents_unusable",
             {{"directories", fmt::format("{}", fmt::join(chain, ", "))},
              {"reason", "the dump did not finish, and --auto-dedup may have begun to free there what it superseded"},
              {"consequence", "a restore from them is refused if it has; the next dump writes everything"}});
}

}  // namespace

int run_dump(const Options& o) {
  const Places places = open_places(o, Missing::is_made);
  UniqueFd page_server(o.page_server.socket);
  if (page_server) check(::fcntl(page_server.get(), F_SETFD, FD_CLOEXEC), "keep the page server's socket from scripts");
  // Once the process has ended, a dump cannot fail any more: what can be written or tried before, is.
  check_status(o);
  if (!o.pidfile.empty()) write_beside(places, o.pidfile, fmt::format("{}\n", o.tree));
  int veto = 0;  // of the post-dump scripts
  const RunAction act = [&veto, scripts = run_scripts(o.action_scripts, places.images_path)](std::string_view action,
                                                                                             pid_t pid) {
    try {
      scripts(action, pid);
    } catch (const ScriptFailed& e) {
      if (action == "post-dump") veto = e.status();
      throw;
    }
  };
  try {
    const NotesBefore notes(o.tree);
    if (auto tracker = tracker_for(o)) {
      const auto died = [&] {
        notes.put_back();
        say_unfinished(o, places);
      };
      tracker->run(o.words, act, died, std::move(page_server));
    } else {
      Guardian guardian([&] { notes.put_back(); });
      TrackedDump(o.tree, guardian.journal()).run(o, places, act, std::move(page_server));
    }
  } catch (const Error& e) {
    if (veto == 0 || e.errc() != Errc::cancelled) throw;
    log::warn("dump.vetoed", {{"reason", e.message()}, {"consequence", "the dump is complete, the process runs on"}});
    return veto;
  }
  // What the dumps before have of each other; what this one supersedes was freed while it was written.
  constexpr std::string_view done = "the dump is complete";
  if (o.auto_dedup && !o.page_server.use) afterwards(done, [&] { dedup_images(places.images.get()); });
  afterwards(done, [&] { say_ready(o); });
  return 0;
}

}  // namespace godwit::engine::commands
