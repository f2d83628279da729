// The helper process of a skeleton: forked by the engine, it enters the task's namespaces, clones the skeleton so that both
// share descriptor table and fs, and waits for the final image set to restore the descriptors natively.
#pragma once

#include "agent/engine/resources/fd_table.h"
#include "common/base/fd.h"
#include "common/base/units.h"
#include "common/image/image_set.h"

#include <sys/types.h>

namespace godwit::engine {

struct HelperPlan {
  pid_t guest_pid = 0;
  int init_pidfd = -1;
  int cgroup_fd = -1;
  RemoteAddr scratch{};  // the skeleton maps its scratch here
};

class Helper {
 public:
  // Forks the helper, which clones the skeleton. The skeleton is the engine's child, waits to be seized, then stops
  // itself by int3 at go().
  explicit Helper(const HelperPlan& plan);
  ~Helper();  // kills and reaps
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  pid_t skeleton() const { return skeleton_; }  // host PID
  void go();

  // Restores the descriptors of the task and ends the helper, whose own descriptors leave the shared table with it.
  void restore_fds(const image::ImageSet& images, const resources::RestorePlan& plan);

 private:
  pid_t pid_ = -1;
  pid_t skeleton_ = -1;
  UniqueFd control_;
  volatile int* go_ = nullptr;  // shared with the skeleton
};

}  // namespace godwit::engine
