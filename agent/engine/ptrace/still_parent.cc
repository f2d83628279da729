#include "agent/engine/ptrace/still_parent.h"

#include "agent/engine/ptrace/tracing.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

namespace godwit::engine {

StillParent::StillParent(pid_t pid, std::chrono::milliseconds limit) {
  if (pid == 0) return;
  try {
    tids_ = seize_threads(pid, 0, limit);
  } catch (const Error& e) {
    log::warn("hold.parent", {{"pid", pid}, {"reason", e.message()}, {"consequence", "it may see its job stop"}});
  }
}

StillParent::~StillParent() { detach_threads(tids_); }

pid_t parent_on_terminal(pid_t pid) {
  const proc::Stat stat = proc::Reader(pid).stat();
  if (stat.tty == 0 || stat.ppid == 0) return 0;
  try {
    return proc::Reader(stat.ppid).stat().sid == stat.sid ? stat.ppid : 0;
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
    return 0;
  }
}

}  // namespace godwit::engine
