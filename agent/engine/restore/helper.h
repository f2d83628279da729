// The helper of a restore: a process that shares descriptors, working directory and umask with the skeleton, in the
// target's namespaces, and does natively what needs no memory of the task: descriptors, and the time namespace.
//
// It is a fork of the engine and talks over a SOCK_SEQPACKET pair: requests and answers are one byte of kind and text.
// It dies with the engine, and says what went wrong before it ends.
#pragma once

#include "common/base/fd.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// What the skeleton writes to the table of its scratch memory when it is ready to be seized.
inline constexpr std::uint64_t skeleton_ready = 0x7964616572;

struct SpawnRequest {
  pid_t pid = 0;              // of the skeleton, in the target PID namespace
  std::uint64_t scratch = 0;  // where its scratch memory is mapped
  int init = -1;              // pidfd of the init of the target's namespaces; -1: ours
  int cgroup = -1;            // directory of the cgroup to be born into; -1: ours
  bool sibling = false;       // the skeleton is a child of our parent, not of the helper; needs our own namespaces
};

class Helper {
 public:
  // Forks the helper and the skeleton. Errc::already_exists when the PID is taken.
  explicit Helper(const SpawnRequest& request);
  ~Helper();  // kills both, unless dismissed
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  int pidfd() const { return pidfd_.get(); }  // of the skeleton
  pid_t host_pid() const { return host_pid_; }

  // A time namespace whose clocks go on from these values. Returns its descriptor in the skeleton's table.
  int time_namespace(std::uint64_t monotonic_ns, std::uint64_t boottime_ns);

  // resources::restore_fds. The helper ends afterwards; the skeleton becomes a child of its namespace's init.
  void restore_fds(const image::ImageSet& images, std::uint32_t files_id, pid_t guest_pid,
                   const std::map<std::uint32_t, int>& segments);

  void dismiss() { dismissed_ = true; }  // the skeleton lives on

 private:
  std::string ask(char kind, const std::string& text, int fd = -1);
  std::string answer();
  void spawn(const SpawnRequest& request);
  void spawn_sibling(UniqueFd theirs, const SpawnRequest& request);
  std::string hear_of_skeleton();
  void wait_for_helper();

  UniqueFd socket_;
  UniqueFd pidfd_;
  pid_t helper_ = 0;
  UniqueFd helper_pidfd_;  // where it is not our child
  pid_t host_pid_ = 0;
  bool dismissed_ = false;
};

}  // namespace godwit::engine
