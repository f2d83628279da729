#include "agent/engine/commands/tracked_dump.h"

#include "agent/engine/commands/command_line.h"
#include "agent/engine/commands/refusals.h"
#include "agent/engine/commands/stats.h"
#include "agent/engine/commands/stopped.h"
#include "agent/engine/ptrace/run_directory.h"
#include "agent/engine/survey.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/image/generation.h"
#include "common/image/inventory.pb.h"
#include "common/image/page_reader.h"
#include "common/image/sync.h"
#include "common/image/task_state.h"

#include <algorithm>
#include <exception>
#include <map>
#include <ranges>

namespace godwit::engine::commands {
namespace {

resources::Options carried(const Options& o) {
  resources::Options options;
  options.tcp_close = o.tcp_close;
  options.file_locks = o.file_locks;
  options.shell_job = o.shell_job;
  return options;
}

std::uint64_t uptime_us() {
  timespec t{};
  check(::clock_gettime(CLOCK_BOOTTIME, &t), "read the clock");
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000u + static_cast<std::uint64_t>(t.tv_nsec) / 1000;
}

// Of the tree, by host PID and by the PID in its namespace: who is in the stop of an earlier dump.
std::map<pid_t, pid_t> left_stopped_of(pid_t root) {
  std::map<pid_t, pid_t> stopped;
  for (const Relative& r : relatives_of(tree_of(root, Orphans::left_out))) {
    try {
      if (!r.dead && left_stopped(r.host)) stopped[r.host] = r.pid;
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || r.host == root) throw;  // others may end meanwhile
    }
  }
  return stopped;
}

// The stop is an earlier dump's, not the process's own: restored, it runs.
void forget_stops(const std::map<pid_t, pid_t>& stopped, image::ImageSet& images) {
  for (const auto& [host, pid] : stopped) {
    const auto id = static_cast<std::uint64_t>(pid);
    if (!images.has(image::Kind::core, id)) continue;
    auto core = images.get<image::CoreEntry>(image::Kind::core, id);
    core.mutable_tc()->set_task_state(image::task_state::alive);
    images.put(image::Kind::core, id, core);
  }
}

// What an earlier dump had left stopped has stopped again when this one has let go of it, and its note fits it no more.
void note_again(const std::map<pid_t, pid_t>& stopped) {
  for (const auto& [pid, inner] : stopped) {
    try {
      commands::note_again(pid);
    } catch (const Error& e) {  // `godwit kill` and `resume` refuse it then
      log::warn("dump.note", {{"pid", pid}, {"message", e.message()}});
    }
  }
}

// Each that can be; what keeps one of them from it keeps no other. Members may end meanwhile.
std::optional<Error> note_all(StopNotes& notes, const std::map<pid_t, StoppedBy>& stopped, pid_t root) {
  std::optional<Error> problem;
  for (const auto& [pid, by] : stopped) {
    try {
      const Doing doing("the dump is complete and its processes are stopped: noting that, for kill and resume");
      notes.write(pid, by);
    } catch (const Error& e) {
      if (!problem && (e.errc() != Errc::target_gone || pid == root)) problem = e;
    }
  }
  return problem;
}

bool peer_is_lost(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& e) {
    return e.errc() == Errc::peer_lost;
  } catch (...) {
    return false;
  }
}

// What a page server that was killed has freed, it can say to nobody.
void doubt_parents_at_server() {
  log::warn("dump.parents_doubtful",
            {{"directories", "those above the page server's"},
             {"reason", "the page server has gone, and with --auto-dedup it frees there what it is sent"},
             {"consequence", "a restore from them is refused if it has; the next dump has what is missing there"}});
}

// What the post-dump scripts say against the end of the process. The dump is good.
std::optional<Error> veto_of(const RunAction& act, pid_t pid) {
  try {
    act("post-dump", pid);
    return std::nullopt;
  } catch (const Error& e) {
    if (e.errc() != Errc::cancelled) throw;  // whoever asked for the dump is gone
    return e;
  }
}

}  // namespace

TrackedDump::TrackedDump(pid_t pid, Journal& journal) : pid_(pid), dump_(pid, Orphans::left_out, {}, journal) {}

// The generation that this dump is a difference to; empty: it is whole, and when that is not what was asked for it says
// so.
std::string TrackedDump::parent_for(const Options& o, const Places& places, std::optional<CriuClient>& server) {
  if (!places.previous) return {};
  std::string reason;
  if (!dump_.tracking())
    reason = "what was written since is not known: nothing tracks this process, or it ran another program";
  else
    reason = wrong_with(places.previous.get(), !server);
  if (reason.empty() && server && !parents_have_all(*server))
    reason = "the page server does not have it as its --prev-images-dir";
  if (reason.empty()) return generation_;
  log::warn("dump.whole", {{"pid", pid_},
                           {"previous", o.previous},
                           {"reason", reason},
                           {"consequence", "everything is written, without a parent"}});
  return {};
}

// Why a difference to the last dump cannot rest on this directory; empty: it can. What is damaged there, or above it,
// would be found by the restore, when the process has gone.
std::string TrackedDump::wrong_with(int previous, bool has_pages) const {
  try {
    const auto before = image::generation_of(previous);
    if (!before || before->own.empty()) return "the dump before did not finish, or Godwit did not write it";
    if (before->own != generation_) return "it is not the last dump of this process that succeeded";
    image::refuse_other_pages(previous);
    if (has_pages)
      for (const pagewire::ObjectId object : objects_)
        image::refuse_missing_pages(previous, kind_of(object), pagewire::object_number(object));
    return {};
  } catch (const Error& e) {
    return e.message();
  }
}

// Whether the page server's parent is the last dump, and all of that is there.
bool TrackedDump::parents_have_all(CriuClient& server) {
  if (!server.parent_has(tag_object(generation_))) return false;
  return std::ranges::all_of(objects_, [&](pagewire::ObjectId object) { return server.parent_has(object); });
}

void TrackedDump::label(image::ImageSet& images, const Options& o, const std::string& generation,
                        const std::string& parent) {
  image::InventoryEntry inventory;
  if (images.has(image::Kind::inventory)) inventory = images.get<image::InventoryEntry>(image::Kind::inventory);
  inventory.set_img_version(image::image_version);
  inventory.set_fdinfo_per_id(true);
  inventory.set_ns_per_id(true);
  inventory.set_generation(generation);
  if (!parent.empty()) inventory.set_parent_generation(parent);
  if (o.track_memory || o.command == "pre-dump") inventory.set_dump_uptime(uptime_us());
  if (o.command == "pre-dump") inventory.set_pre_dump_mode(1);
  if (o.tcp_close) inventory.set_tcp_close(true);
  images.put(image::Kind::inventory, 0, inventory);
}

// Nobody stands still for it. The pages that were written are in no dump when it fails.
void TrackedDump::close_late(DumpSink& sink, const Places& places) {
  try {
    sink.close();
  } catch (...) {
    mark_unusable(places);
    generation_.clear();
    if (const std::set<std::string> robbed = sink.freed_in(); !robbed.empty()) give_up_parents(robbed);
    throw;
  }
}

// What --auto-dedup has taken out of them is nowhere else now: no dump may refer to them any more.
void TrackedDump::give_up_parents(const std::set<std::string>& directories) {
  dump_.begin_again();
  generation_.clear();
  log::error("dump.parents_unusable",
             {{"directories", fmt::format("{}", fmt::join(directories, ", "))},
              {"reason", "the dump did not finish, and --auto-dedup had begun to free there what it superseded"},
              {"consequence", "nothing can be restored from them; the next dump writes everything"}});
}

void TrackedDump::run(const Options& o, const Places& places, const RunAction& act, UniqueFd page_server,
                      StillWanted still_wanted) {
  const bool pre = o.command == "pre-dump";
  const bool ends = !pre && !o.leave_running && !o.leave_stopped;  // then the images are all that there is
  MemoriesSeen seen;
  Surveyed surveyed = survey(pid_, Orphans::left_out, carried(o), &seen);
  refuse_namespaces(surveyed, pid_);
  refuse_by_name(surveyed, o);
  dump_.set_options(carried(o));
  dump_.set_seen(std::move(seen));
  dump_.set_hold_limit(std::chrono::seconds(o.timeout_s));
  std::optional<CriuClient> server = reach_page_server(o, std::move(page_server));
  const std::string parent = parent_for(o, places, server);
  if (parent.empty()) {
    dump_.begin_again();
    generation_.clear();
    round_ = 0;
  }
  if (server) server->parent_has(tag_object(""));  // it is there, and has begun its session, before anything is removed
  if (ends && !parent.empty() && !server) image::sync_with_parents(places.previous.get());
  clear_images(places, o.page_server.use ? PagesGo::to_a_server : PagesGo::here);
  const std::string generation = fresh_generation();
  StopNotes notes(generation);
  bool held = false;
  std::optional<Error> veto;
  std::map<pid_t, pid_t> stopped_by_us;
  RoundDone round;
  Dump::Frozen frozen;
  image::DumpStatsEntry stats;
  const bool differs_at_server = server && !parent.empty();
  std::unique_ptr<DumpSink> sink =
      make_sink(std::move(server), places, generation, parent, o.auto_dedup ? Superseded::freed : Superseded::kept);
  if (still_wanted) sink = std::make_unique<WatchedSink>(std::move(sink), std::move(still_wanted));
  try {
    if (!parent.empty()) image::set_parent(places.images.get(), o.previous);
    if (pre) {
      round = dump_.round(round_, *sink);
    } else {
      act("pre-dump", pid_);
      stopped_by_us = left_stopped_of(pid_);
      const auto tracking = o.track_memory ? Dump::Tracking::begin : Dump::Tracking::as_it_is;
      frozen = dump_.freeze(round_, *sink, std::chrono::seconds(o.timeout_s), tracking);
      held = true;
      forget_stops(stopped_by_us, sink->images());
      round = frozen.round;
    }
    if (o.leave_stopped)
      for (const pid_t pid : dump_.pids()) notes.make_room(pid);
    const HeldPages pages = dump_.held();
    label(sink->images(), o, generation, parent);
    sink->save(pages, ends ? Storage::durable : Storage::cached);
    if (!o.leave_running) sink->close();
    stats = dump_stats(round, frozen, pages);
    if (!pre) veto = veto_of(act, pid_);
    dump_.acknowledged(sink->last_sequence());
    generation_ = generation;
    const auto objects = std::views::keys(pages);
    objects_.assign(objects.begin(), objects.end());
    round_++;
  } catch (...) {
    dump_.owe_unacknowledged();
    mark_unusable(places);
    if (differs_at_server && peer_is_lost(std::current_exception())) doubt_parents_at_server();
    if (held) {
      dump_.release();
      note_again(stopped_by_us);
    }
    if (const std::set<std::string> robbed = sink->freed_in(); !robbed.empty()) give_up_parents(robbed);
    throw;
  }
  std::map<pid_t, StoppedBy> stopped;
  Dump::Killed killed;
  if (!pre) {
    if (o.leave_running || veto) {
      dump_.release();
    } else if (!o.leave_stopped) {
      killed = dump_.kill();
    } else {
      for (const pid_t pid : dump_.pids())
        stopped[pid] = dump_.was_stopped(pid) && !stopped_by_us.contains(pid) ? StoppedBy::others : StoppedBy::dump;
      dump_.leave_stopped();
    }
  }
  const std::uint64_t ended_ns = killed.at_ns > 0 ? killed.at_ns : monotonic_ns();
  const std::uint64_t frozen_ns = pre ? 0 : ended_ns - frozen.at_ns;
  for (const auto& [pid, start_time] : killed.processes) forget_process(pid, start_time);
  if (o.leave_running || veto) note_again(stopped_by_us);
  if (o.leave_running) close_late(*sink, places);
  for (const Step& s : frozen.steps.list())
    log::info("dump.step", {{"name", s.name()}, {"us", s.nanoseconds() / 1000}});
  log::info("dump.done", {{"pid", pid_},
                          {"pages", round.pages()},
                          {"bytes", round.bytes()},
                          {"whole", parent.empty()},
                          {"generation", generation}});
  const std::optional<Error> unnoted = note_all(notes, stopped, pid_);
  afterwards("the dump is complete", [&] { write_stats(places, std::move(stats), frozen_ns); });
  if (veto) throw *veto;
  if (unnoted) throw *unnoted;
}

}  // namespace godwit::engine::commands
