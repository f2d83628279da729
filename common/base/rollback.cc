#include "common/base/rollback.h"

#include "common/base/log.h"

namespace godwit {

void Rollback::run() noexcept {
  while (!steps_.empty()) {
    Step step = std::move(steps_.back());
    steps_.pop_back();
    try {
      step.undo();
    } catch (const std::exception& e) {
      log::warn("rollback.step_failed", {{"step", step.what}, {"error", e.what()}});
    }
  }
}

}  // namespace godwit
