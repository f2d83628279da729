#include "agent/engine/commands/dump_command.h"

#include "agent/engine/commands/command_line.h"
#include "agent/engine/commands/dedup_command.h"
#include "agent/engine/commands/guardian.h"
#include "agent/engine/commands/stopped.h"
#include "agent/engine/commands/tracked_dump.h"
#include "agent/engine/holder/client.h"
#include "common/base/log.h"

namespace godwit::engine::commands {
namespace {

// Who knows, or will have to know, what changes between this dump and another one.
std::optional<holder::Client> tracker_for(const Options& o) {
  const bool goes_on = o.leave_running || o.leave_stopped;
  if (o.command == "pre-dump" || (o.track_memory && goes_on)) return holder::Client::find_or_start(o.tree);
  if (!o.previous.empty()) return holder::Client::find(o.tree);
  return std::nullopt;
}

}  // namespace

int run_dump(const Options& o) {
  const Places places = open_places(o, Missing::is_made);
  UniqueFd page_server(o.page_server.socket);
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
      tracker->run(o.words, act, [&] { notes.put_back(); }, page_server.get());
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
