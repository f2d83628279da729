// The spool of one migration: a detached tmpfs. It has no path, is never mounted anywhere, and is gone when the
// last descriptor is.
#pragma once

#include "common/base/fd.h"

#include <cstdint>

#include <sys/types.h>

namespace godwit::transfer {

// The root directory (as O_PATH, for openat and for sending along) of a tmpfs that holds `limit` bytes in the files
// of `streams` page streams, owned by `user`. Needs CAP_SYS_ADMIN.
UniqueFd make_spool(std::uint64_t limit, unsigned streams, uid_t user, gid_t group);

}  // namespace godwit::transfer
