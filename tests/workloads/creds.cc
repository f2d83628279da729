// Checks: user and group IDs of all four kinds, supplementary groups, all five capability sets, securebits and
// no_new_privs, of a process that has left root behind and of a thread whose credentials differ from the process's.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sstream>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

long set_capabilities(std::uint64_t effective, std::uint64_t permitted, std::uint64_t inheritable) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  for (int half = 0; half < 2; ++half) {
    data[half].effective = static_cast<std::uint32_t>(effective >> (32 * half));
    data[half].permitted = static_cast<std::uint32_t>(permitted >> (32 * half));
    data[half].inheritable = static_cast<std::uint32_t>(inheritable >> (32 * half));
  }
  return syscall(SYS_capset, &header, data);
}

struct Identity {
  uid_t uids[3];
  gid_t gids[3];
  gid_t groups[3];
  uid_t fsuid;
};

// By system calls, which change only the calling thread; the C library would change all.
void become(const Identity& who) {
  must(syscall(SYS_setgroups, 3, who.groups), "setgroups");
  must(syscall(SYS_setresgid, who.gids[0], who.gids[1], who.gids[2]), "setresgid");
  must(syscall(SYS_setresuid, who.uids[0], who.uids[1], who.uids[2]), "setresuid");
  setfsgid(who.gids[2]);
  setfsuid(who.fsuid);
}

std::string credentials() {
  std::string text;
  std::istringstream status(read_file("/proc/thread-self/status"));
  for (std::string line; std::getline(status, line);) {
    for (const char* prefix :
         {"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:"}) {
      if (line.starts_with(prefix)) text += line + "\n";
    }
  }
  return text + "securebits " + std::to_string(prctl(PR_GET_SECUREBITS)) + "\n";
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string secret = w.path("secret");
  write_file(secret, "for root only");
  must(chmod(secret.c_str(), 0600), "chmod");

  // With this bit the kernel leaves the capabilities alone when the user changes.
  must(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NOROOT),
       "PR_SET_SECUREBITS");
  for (const int dropped : {CAP_SYS_MODULE, CAP_SYS_BOOT, CAP_SYS_RAWIO})
    must(prctl(PR_CAPBSET_DROP, dropped), "PR_CAPBSET_DROP");

  std::atomic<bool> ready = false;
  std::atomic<bool> verify = false;
  std::thread other([&] {
    become({{2100, 2101, 2102}, {1100, 1101, 1102}, {3100, 3101, 3102}, 2100});
    must(set_capabilities(0, bit(CAP_KILL), 0), "capset");
    const std::string before = credentials();
    ready = true;
    while (!verify) pause_for(0.005);
    const std::string now = credentials();
    w.check(now == before, "the thread's credentials were:\n%sand are:\n%s", before.c_str(), now.c_str());
  });
  while (!ready) pause_for(0.001);

  become({{2001, 2002, 2003}, {1001, 1002, 1003}, {3001, 3002, 3003}, 2001});
  must(set_capabilities(bit(CAP_NET_BIND_SERVICE),
                        bit(CAP_NET_BIND_SERVICE) | bit(CAP_CHOWN) | bit(CAP_CHECKPOINT_RESTORE),
                        bit(CAP_NET_BIND_SERVICE) | bit(CAP_AUDIT_WRITE)),
       "capset");
  must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0), "PR_CAP_AMBIENT_RAISE");
  must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  const std::string before = credentials();

  w.ready();
  w.wait_for_verify();
  const std::string now = credentials();
  w.check(now == before, "the credentials were:\n%sand are:\n%s", before.c_str(), now.c_str());
  verify = true;
  other.join();
  w.check(open(secret.c_str(), O_RDONLY | O_CLOEXEC) == -1 && errno == EACCES, "root's file can be opened: %m");
  w.check(syscall(SYS_setresuid, 0, 0, 0) == -1 && errno == EPERM, "the way back to root is open: %m");
  w.check(set_capabilities(bit(CAP_CHOWN), bit(CAP_CHOWN), 0) == 0 && chown(secret.c_str(), 2001, 1001) == 0,
          "a permitted capability cannot be used: %m");
  return w.finish();
}
