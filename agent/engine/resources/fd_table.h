// The file descriptors of tasks: survey, dump, restore; and their working directories, roots and umasks.
//
// Every kind of file is one module of this folder; fd_kinds.cc lists them. What no kind matches is refused by name.
// Errors say which descriptor. One thread; nothing here blocks on what the target does.
#pragma once

#include "agent/engine/resources/file_ids.h"
#include "agent/engine/resources/needed_files.h"
#include "agent/engine/resources/refusal.h"
#include "agent/engine/resources/terminal_restore.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::resources {

struct Options {
  bool tcp_close = false;               // established TCP connections end at the destination instead of being refused
  bool file_locks = false;              // locks and leases are carried instead of being refused
  bool shell_job = false;               // a terminal from outside is exchanged for another one instead of being refused
  std::uint64_t ghost_limit = 1 << 20;  // bytes of a deleted file that are carried
};

// A name in the file system that only one copy can have to itself: of a socket, whoever binds to it again would have to
// take it from the process; of a locked file, the same. It is told by its inode and when that changed last.
struct BoundName {
  std::string path;
  ino_t inode = 0;
  std::int64_t changed_ns = 0;
};

struct FdSurvey {
  std::vector<Refusal> refusals;       // empty: can be carried
  std::vector<std::string> notices;    // named degradations
  std::vector<NeededFile> files;       // mapped = false
  std::vector<std::string> listening;  // "tcp 0.0.0.0:6379", "tcp [::]:80", "udp 127.0.0.1:53", "unix /run/x.sock"
  std::vector<BoundName> bound;
  std::vector<BoundName> locked;  // files with exclusive locks or leases
};

// Pipes, fifos and sockets of a tree of tasks, by link, its memfds and eventfds by what they are: which ends it holds,
// and who else holds one.
struct TreeFiles {
  std::vector<pid_t> tree;
  std::map<std::string, unsigned> held;
  std::map<std::string, pid_t> outside;
  std::set<unsigned> outer_terminals;  // by number: their masters are held by others
};
// Looks at every process of the host: not in a freeze. Tasks that have ended are left out.
TreeFiles look_at_files(std::span<const pid_t> tree);

// Reads only, on a running or a stopped task. Descriptors that come and go meanwhile are left to the next survey.
// Errc::target_gone when the task has ended.
FdSurvey survey_fds(pid_t pid, const Options& options, const TreeFiles& tree);
FdSurvey survey_fds(pid_t pid, const Options& options);  // of a task that is a tree of its own

// A task whose threads are all stopped.
struct StoppedTask {
  pid_t pid = 0;               // host
  int pidfd = -1;              // borrowed
  pid_t guest_pid = 0;         // names fs-PID.img
  std::size_t level = ~0u;     // of the tree's PID namespace, in lists of ids (proc::Status)
  std::uint32_t files_id = 0;  // names fdinfo-ID.img; those who share a table have the same
  std::uint32_t fs_id = 0;
  std::uint32_t memory_id = 0, handlers_id = 0;
};

// Describes every descriptor of a tree: fdinfo-ID.img, content of pipes and sockets into `out`, open files into `ids`.
// Changes nothing in the targets. Returns notices. Refuses again what the survey would refuse (Errc::refused, naming
// all), because descriptors may have come since. Errc::busy: try again later.
std::vector<std::string> dump_fds(std::span<const StoppedTask> tasks, FileIds& ids, image::ImageSet& out,
                                  const Options& options);

// Working directory, root and umask: fs-PID.img.
void dump_fs(const StoppedTask& task, std::uint32_t umask, FileIds& ids, image::ImageSet& out);

// The highest descriptor number in any fdinfo-ID.img, -1 when there is none.
int highest_fd(const image::ImageSet& images);

struct RestorePlan {
  std::uint32_t files_id = 0;
  pid_t pid = 0;  // the task's, as this process sees it
};

// Makes descriptor tables in a helper process, in the task's namespaces, as root: every open file of the images once,
// then one table after another. The tables of the tasks are copied from there (pidfd_getfd), so that files that tasks
// share are shared again. The umask is 0 afterwards.
class FdRestorer {
 public:
  // Opens everything, above highest_fd(). `segments`: by shmid, filled memory objects, borrowed descriptors of this
  // process. `terminals`: those that were made before. `images` outlives this.
  FdRestorer(const image::ImageSet& images, const std::map<std::uint32_t, int>& segments, Terminals terminals = {});
  ~FdRestorer();
  FdRestorer(const FdRestorer&) = delete;
  FdRestorer& operator=(const FdRestorer&) = delete;

  // Afterwards this process has the table's descriptors under their numbers, and up to highest_fd() no others: those of
  // the table before are closed.
  void place(const RestorePlan& plan);
  // When all mappings of memfds are made: a seal would stand in their way. Not after place().
  void seal();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Descriptor number and whether it is closed on exec, ascending.
std::vector<std::pair<int, bool>> descriptors_of(const image::ImageSet& images, std::uint32_t files_id);

// Working directory, root and umask of a task, as paths.
struct Places {
  std::string cwd, root;
  std::uint32_t umask = 0;
};
// Of the records of files.img that are paths; read once for all tasks.
using FilePaths = std::map<std::uint32_t, std::string>;
FilePaths paths_of(const image::ImageSet& images);
const std::string& path_of(const FilePaths& paths, std::uint32_t file_id);
Places places_of(const image::ImageSet& images, const FilePaths& paths, pid_t guest_pid);

}  // namespace godwit::engine::resources
