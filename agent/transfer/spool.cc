#include "agent/transfer/spool.h"

#include "common/base/units.h"

#include <string>
#include <tuple>

#include <sys/mount.h>

namespace godwit::transfer {
namespace {

// The files never grow beyond their windows, which add up to the limit; this is for what the file system itself needs.
constexpr std::uint64_t slack = 1u << 20;

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
  // The files are written over and over: in huge pages for less. A kernel without them says EINVAL.
  std::ignore = ::fsconfig(context.get(), FSCONFIG_SET_STRING, "huge", "always", 0);
  set(context.get(), "uid", std::to_string(user));
  set(context.get(), "gid", std::to_string(group));
  check(::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "spool: create the tmpfs");
  constexpr unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  return UniqueFd(check(::fsmount(context.get(), FSMOUNT_CLOEXEC, attributes), "spool: mount the tmpfs, detached"));
}

}  // namespace godwit::transfer
