// The state of a task, but for its memory, into a skeleton whose memory is whole: the second half of a restore.
#pragma once

#include "agent/engine/restore/skeleton.h"
#include "agent/engine/steps.h"
#include "common/image/image_set.h"

#include <optional>
#include <string>
#include <vector>

namespace godwit::engine {

struct RestoredTask {
  std::vector<pid_t> threads;  // host TIDs, the leader first; all in trap stops with everything in place
  std::vector<std::string> notices;
  bool stopped = false;  // it was stopped by a signal at the dump
};

RestoredTask restore_task(Skeleton& skeleton, const image::ImageSet& images, pid_t guest_pid, Steps& steps);

}  // namespace godwit::engine
