// The skeleton: a stopped process with the task's PID, in its namespaces and cgroup, whose memory is empty but for a scratch
// mapping; and its helper, a process that shares the skeleton's descriptor table, working directory and umask
// (CLONE_FILES | CLONE_FS) but not its memory, in which descriptors are restored natively.
//
// Until detach() both die with the engine (PTRACE_O_EXITKILL, pdeathsig). One thread, the one that made it. Everything
// throws; a skeleton that threw is thrown away.
#pragma once

#include "agent/engine/ptrace/remote_syscalls.h"
#include "agent/engine/restore/helper.h"
#include "common/base/fd.h"
#include "common/image/mm.pb.h"

#include <memory>
#include <utility>

#include <sys/types.h>

namespace godwit::engine {

struct SkeletonPlan {
  pid_t guest_pid = 0;     // PID in the target PID namespace
  int init_pidfd = -1;     // the init of the namespaces to live in; -1: the engine's own. Borrowed
  int cgroup_fd = -1;      // v2 cgroup directory to be born into; -1: the engine's. Borrowed
  image::MmEntry layout;   // of the task: the scratch mapping stays clear of it, the vdso goes where it was
};

class Skeleton {
 public:
  // Errc::already_exists when the PID is taken, naming the holder; Errc::unsupported when this kernel's vdso is not laid out
  // like the one in the image.
  explicit Skeleton(const SkeletonPlan& plan);
  ~Skeleton();  // kills both, unless detached
  Skeleton(const Skeleton&) = delete;
  Skeleton& operator=(const Skeleton&) = delete;

  pid_t pid() const { return pid_; }  // host
  int pidfd() const { return pidfd_.get(); }
  RemoteSyscalls& remote() { return *remote_; }
  RemoteAddr scratch() const { return scratch_; }
  Helper& helper() { return *helper_; }

  // Moves the scratch mapping when a layout needs its place. Returns whether it did.
  bool make_way(const image::MmEntry& layout);
  // Whether a layout has its vdso elsewhere: the program has exec'ed, and a new skeleton is needed.
  bool exec_since(const image::MmEntry& layout) const { return vdso_of(layout) != vdso_; }

  // Makes calls from the vdso's own syscall instruction and unmaps the scratch mapping: after this, no batches.
  void drop_scratch();
  // From now on the process belongs to nobody: the destructor lets it live. The caller has detached its threads.
  void abandon() { alive_ = false; }

 private:
  using Extent = std::pair<std::uint64_t, std::uint64_t>;
  static Extent vdso_of(const image::MmEntry& layout);
  void clear(const image::MmEntry& layout);

  UniqueFd pidfd_;
  pid_t pid_ = -1;
  bool alive_ = false;
  RemoteAddr scratch_{};
  Extent vdso_;
  std::unique_ptr<Helper> helper_;
  std::unique_ptr<RemoteSyscalls> remote_;
};

// A free place for a scratch mapping, clear of `layout` and of this process's own mappings.
RemoteAddr scratch_hole(const image::MmEntry& layout);

}  // namespace godwit::engine
