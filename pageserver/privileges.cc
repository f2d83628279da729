#include "pageserver/privileges.h"

#include "common/base/check.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace godwit::pageserver {
namespace {

void become(const std::string& user) {
  const passwd* entry = ::getpwnam(user.c_str());
  if (!entry) fail(Errc::invalid_argument, "there is no user '{}'", user);
  if (entry->pw_uid == 0) fail(Errc::invalid_argument, "the page server does not run as root: use another --user");
  // Needs CAP_SETPCAP: before the identity changes.
  for (int cap = 0; ::prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; ++cap)
    check(::prctl(PR_CAPBSET_DROP, cap, 0, 0, 0), "drop capability {} from the bounding set", cap);
  check(::setgroups(0, nullptr), "drop all groups");
  check(::setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid), "become group {}", entry->pw_gid);
  check(::setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid), "become user {}", user);
}

}  // namespace

void drop_privileges(const std::string& user) {
  if (::geteuid() == 0) become(user);
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs");
  check(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "become undumpable");
  const rlimit none{0, 0};
  check(::setrlimit(RLIMIT_CORE, &none), "forbid core dumps");
}

}  // namespace godwit::pageserver
