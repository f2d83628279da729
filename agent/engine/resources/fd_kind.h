// What a kind of file is to the dump and the restore: a few functions with no state between them.
//
// `matches` decides from the view alone. `refusal` names why this one cannot be carried; it only reads. `dump` fills
// the member of the entry (type and id are set) and may not change the file. `restore` makes the file from its
// entry; the flags that F_SETFL can set, the owner of SIGIO and the number are the caller's work. `link` runs when
// every descriptor has its final number: for files that refer to others.
#pragma once

#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/terminal_restore.h"
#include "common/image/files.pb.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::engine::resources {

inline constexpr unsigned held_for_reading = 1;
inline constexpr unsigned held_for_writing = 2;

// What the whole table says, for kinds whose other end matters.
struct SurveyContext {
  const Options& options;
  pid_t pid = 0;
  std::vector<pid_t> tree = {};               // the task and its relatives, who are carried with it
  std::map<std::string, unsigned> held = {};  // pipes, fifos and sockets of the tree by link: held_for_*
  std::map<std::string, pid_t> outside = {};  // who else holds such a link; not looked for in a freeze
  std::set<unsigned> outer_terminals = {};    // by number: their masters are held by others
  std::uint64_t network = 0;                  // inode of the task's network namespace, once somebody asked
  std::vector<std::string> notices = {};
  std::vector<std::string> listening = {};
  std::vector<BoundName> bound = {};
  std::vector<BoundName> locked = {};  // by exclusive locks and leases
  bool frozen = false;                 // nobody outside the tree is looked at
};

// The ends of the pseudo terminals that a dump has met, borrowed copies; -1: nobody of the tree has it open.
struct TerminalEnds {
  int master = -1, slave = -1;
  int current = -1;              // opened as /dev/tty, which tells nothing of the file in /dev/pts
  std::uint32_t current_id = 0;  // of that in tty-info.img
};
using TerminalsMet = std::map<unsigned, TerminalEnds>;  // by number

struct DumpContext {
  const Options& options;
  FileIds& ids;
  image::ImageSet& out;
  const std::vector<FdView>& table;  // all of the task's, ascending
  TerminalsMet& terminals;
  std::size_t level;  // StoppedTask's
  std::vector<std::string> notices = {};
};

// Both ends of a pipe, made when the first of its descriptors is.
struct PipeEnds {
  UniqueFd read;
  UniqueFd write;
  bool read_taken = false;
  bool write_taken = false;
};

struct RestoreContext {
  const image::ImageSet& images;
  const std::map<std::uint32_t, int>& segments;
  std::map<std::uint32_t, image::FileEntry> files = {};  // the entries of files.img, by id
  std::map<std::uint32_t, PipeEnds> pipes = {};          // by pipe_id
  std::map<std::uint32_t, UniqueFd> parked = {};         // second ends of pairs, by file id
  std::map<std::uint32_t, UniqueFd> ghosts = {};         // content of deleted files, by remap_id
  Terminals* terminals = nullptr;
};

struct FdKind {
  image::FdType type;
  std::string_view name;
  bool (*matches)(const FdView&);
  std::optional<Refusal> (*refusal)(const FdView&, SurveyContext&);
  void (*dump)(const FdView&, image::FileEntry&, DumpContext&);
  UniqueFd (*restore)(const image::FileEntry&, RestoreContext&);
  void (*link)(const image::FileEntry&, int fd, RestoreContext&);
};

}  // namespace godwit::engine::resources
