#include "agent/engine/tasks/memory_policy.h"

namespace godwit::engine::tasks::memory_policy {

void dump(Inquiry& ask, image::ThreadCoreEntry& into) {
  const numa::Question policy = numa::ask_thread(ask.batch());
  ask.then([policy, &into](const Batch& b) {
    if (auto found = numa::answer(b, policy)) *into.mutable_numa() = std::move(*found);
  });
}

void restore(Batch& batch, const image::ThreadCoreEntry& from, numa::Requirements& requirements) {
  if (from.has_numa()) requirements.require(from.numa());
  numa::set_thread(batch, from.has_numa() ? &from.numa() : nullptr);
}

}  // namespace godwit::engine::tasks::memory_policy
