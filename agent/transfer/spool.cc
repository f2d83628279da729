#include "agent/transfer/spool.h"

#include "common/base/units.h"

#include <string>

#include <sys/mount.h>

namespace godwit::transfer {
namespace {

// What the page server may store beyond what is released, apart from payload: the padding that ends a frame, and
// frames that have been released but whose punched range does not reach a page's end yet.
constexpr std::uint64_t slack = 4u << 20;

void set(int context, const char* key, const std::string& value) {
  check(::fsconfig(context, FSCONFIG_SET_STRING, key, value.c_str(), 0), "spool: set {}={}", key, value);
}

}  // namespace

UniqueFd make_spool(std::uint64_t limit, unsigned streams, uid_t user, gid_t group) {
  const UniqueFd context(check(::fsopen("tmpfs", FSOPEN_CLOEXEC), "spool: make a tmpfs"));
  set(context.get(), "source", "godwit-spool");
  set(context.get(), "size", std::to_string(page_up(limit + slack)));
  set(context.get(), "nr_inodes", std::to_string(streams + 2));  // the root directory, and one to spare
  set(context.get(), "mode", "0700");
  set(context.get(), "uid", std::to_string(user));
  set(context.get(), "gid", std::to_string(group));
  check(::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "spool: create the tmpfs");
  constexpr unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  return UniqueFd(check(::fsmount(context.get(), FSMOUNT_CLOEXEC, attributes), "spool: mount the tmpfs, detached"));
}

}  // namespace godwit::transfer
