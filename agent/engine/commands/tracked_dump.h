// A process and the dumps of it: each of them whole, or the difference to the one before.
//
// One object lives through one command, or, in a holder, through as many as come. What makes an incremental dump right:
//  - every complete set of images has a generation (inventory.img), and the parent of a difference must be the one that
//    succeeded last, all of its pages still there; with any other parent (CRIU's, an older one, one that failed, a
//    damaged one) everything is written;
//  - what a failed dump had already taken from the tracker is owed, and written again by the next one.
// A process that is to end does so when its images are on the disk, and those of the parents with them.
// One thread. After an exception the process runs as before.
#pragma once

#include "agent/engine/commands/places.h"
#include "agent/engine/commands/sink.h"
#include "agent/engine/commands/watched_sink.h"
#include "agent/engine/dump.h"
#include "common/commandline/actions.h"

#include <set>
#include <string>
#include <vector>

namespace godwit::engine::commands {

class TrackedDump {
 public:
  TrackedDump(pid_t pid, Journal& journal);

  // `godwit dump` or `godwit pre-dump`, but for what the command itself does (log, status, dedup).
  // `page_server`: connected, when the options name one. Errc::cancelled after a dump that is complete: the post-dump
  // scripts were against the end of the process. `still_wanted` empty: this is the process that was asked.
  void run(const Options& options, const Places& places, const RunAction& act, UniqueFd page_server = {},
           StillWanted still_wanted = {});

  // Whether a later dump can be a difference to the last one.
  bool tracking() { return dump_.tracking(); }

 private:
  std::string parent_for(const Options& options, const Places& places, std::optional<CriuClient>& server);
  std::string wrong_with(int previous, bool has_pages) const;
  bool parents_have_all(CriuClient& server);
  void close_late(DumpSink& sink, const Places& places);
  void give_up_parents(const std::set<std::string>& directories);
  void label(image::ImageSet& images, const Options& options, const std::string& generation, const std::string& parent);

  pid_t pid_;
  Dump dump_;
  std::string generation_;                   // the last one that succeeded; empty: the next dump is whole
  std::vector<pagewire::ObjectId> objects_;  // whose pages it has
  std::uint32_t round_ = 0;
};

}  // namespace godwit::engine::commands
