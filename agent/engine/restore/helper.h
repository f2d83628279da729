// The helper of a restore: a process in the target's namespaces that does natively what needs no memory of a task: it
// makes the skeletons that have no parent in the tree, shared memory, the time namespace, and descriptor tables.
//
// It is a fork of the engine and talks over a SOCK_SEQPACKET pair; what the two say is in helper_words.h. It dies with
// the engine, and says what went wrong before it ends.
#pragma once

#include "agent/engine/restore/helper_words.h"
#include "common/base/fd.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// What a skeleton writes to the table of its scratch memory when it is ready to be seized.
inline constexpr std::uint64_t skeleton_ready = 0x7964616572;

struct SpawnRequest {
  pid_t pid = 0;              // of the skeleton, in the target PID namespace
  std::uint64_t scratch = 0;  // where its scratch memory is mapped
  bool sibling = false;       // a child of our parent, not of the helper; needs our own namespaces
  bool own_session = true;    // else it is born, and stays, in our session and process group
};

class Helper {
 public:
  // `init`: pidfd of the init of the target's namespaces, -1: ours. `cgroup`: directory of the cgroup that the helper
  // and its children are born into, -1: ours; sockets belong to the cgroup of their maker. `avoid`: PIDs that the
  // helper must not take.
  Helper(int init, int cgroup, const std::vector<pid_t>& avoid);
  ~Helper();  // kills it
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  pid_t guest_pid() const { return guest_pid_; }  // as the tasks know it
  pid_t pid() const { return helper_; }
  // Whether the tasks are called by us what they call themselves.
  bool in_our_namespace() const { return !init_ && guest_pid_ == helper_; }

  // Forks a skeleton; returns its pidfd. Errc::already_exists when the PID is taken.
  UniqueFd spawn(const SpawnRequest& request);
  void reap(pid_t guest_pid);  // a skeleton that has been killed

  RestoredSegments::Made make_segment(const SegmentSpec& spec);

  // Makes /dev/pts/TERMINAL, unless it has. Errc::already_exists when somebody else has that one.
  void make_terminal(int terminal);
  // What was open of /dev/pts/TERMINAL becomes open files of `fd`.
  void replace_terminal(int terminal, int fd);
  // Takes over descriptor `number` of process `pid`, as the tasks know it, for file `id` of files.img.
  void adopt(std::uint32_t id, pid_t pid, int number);

  // A time namespace whose clocks go on from these values. Returns its descriptor in the helper's table.
  int time_namespace(std::uint64_t monotonic_ns, std::uint64_t boottime_ns);

  // Every open file of the images, once (resources::FdRestorer). `segments`: by shmid, in the helper's table.
  void open_files(const image::ImageSet& images, const std::map<std::uint32_t, int>& segments);
  // The helper gets the descriptors `files_id` of task `pid`, under their numbers, until it gets others.
  void place(std::uint32_t files_id, pid_t pid);

  // It ends; skeletons that it has made become children of their namespace's init.
  void end();

 private:
  std::string ask(const helper::Request& request, int fd = -1, UniqueFd* answered = nullptr);
  std::string answer(UniqueFd* fd = nullptr);
  void start(int init, int cgroup, const std::vector<pid_t>& avoid);
  UniqueFd spawn_sibling(const SpawnRequest& request);

  UniqueFd socket_;
  UniqueFd init_;
  pid_t helper_ = 0;  // host
  UniqueFd pidfd_;
  pid_t guest_pid_ = 0;
};

}  // namespace godwit::engine
