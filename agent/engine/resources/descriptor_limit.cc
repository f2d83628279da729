#include "agent/engine/resources/descriptor_limit.h"

#include "common/base/check.h"

#include <sys/resource.h>

namespace godwit::engine::resources {

void raise_descriptor_limit() {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "read the limit of descriptors");
  if (limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  check(::setrlimit(RLIMIT_NOFILE, &limit), "raise the limit of descriptors to {}", limit.rlim_max);
}

}  // namespace godwit::engine::resources
