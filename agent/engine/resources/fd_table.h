// The file descriptors of one task: survey, dump, restore; and its working directory, root and umask.
//
// Every kind of file is one module of this folder; fd_kinds.cc lists them. What no kind matches is refused by name.
// Errors say which descriptor. One thread; nothing here blocks on what the target does.
#pragma once

#include "agent/engine/resources/file_ids.h"
#include "agent/engine/resources/needed_files.h"
#include "agent/engine/resources/refusal.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::resources {

struct Options {
  bool tcp_close = false;               // established TCP connections end at the destination instead of being refused
  std::uint64_t ghost_limit = 1 << 20;  // bytes of a deleted file that are carried
};

// A socket's name in the file system: whoever binds to it again would have to take it from the process. The file is
// told by its inode and when that changed last.
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
};

// Reads only, on a running or a stopped task. Descriptors that come and go meanwhile are left to the next survey.
// Errc::target_gone when the task has ended.
FdSurvey survey_fds(pid_t pid, const Options& options);

// A task whose threads are all stopped.
struct StoppedTask {
  pid_t pid = 0;               // host
  int pidfd = -1;              // borrowed
  pid_t guest_pid = 0;         // names fs-PID.img
  std::uint32_t files_id = 0;  // names fdinfo-ID.img
};

// Describes every descriptor: fdinfo-ID.img, content of pipes and sockets into `out`, open files into `ids` (whose
// write() comes after the last task). Changes nothing in the target. Returns notices. Refuses again what the survey
// would refuse (Errc::refused, naming all), because descriptors may have come since. Errc::busy: try again later.
std::vector<std::string> dump_fds(const StoppedTask& task, FileIds& ids, image::ImageSet& out, const Options& options);

// Working directory, root and umask: fs-PID.img.
void dump_fs(const StoppedTask& task, std::uint32_t umask, FileIds& ids, image::ImageSet& out);

// The highest descriptor number in fdinfo-ID.img, -1 when there is none.
int highest_fd(const image::ImageSet& images, std::uint32_t files_id);

struct RestorePlan {
  std::uint32_t files_id = 0;
  pid_t guest_pid = 0;
  pid_t pid = 0;                          // the task's PID as this process sees it; 0: the same as guest_pid
  std::map<std::uint32_t, int> segments;  // by shmid: filled memory objects, descriptors of this process, borrowed
  std::vector<int> keep;                  // stay open; must be above highest_fd()
};

// Runs in a helper process that shares its descriptor table and fs with the task being restored (CLONE_FILES |
// CLONE_FS, no CLONE_VM), in the task's namespaces, as root. Afterwards the table holds the image's descriptors and
// `keep`, nothing else (segments are closed), and cwd, root and umask are those of the image.
void restore_fds(const image::ImageSet& images, const RestorePlan& plan);

}  // namespace godwit::engine::resources
