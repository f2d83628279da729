// Other credentials for a moment: the kernel writes the caller's into unix sockets and owners of SIGIO.
//
// Raw calls on this thread only (libc would change all threads); the saved ids stay 0, which is the way back. Root
// only.
#pragma once

#include "common/base/check.h"

#include <cstdint>

#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine::resources {

struct Identity {
  std::uint32_t uid = 0;
  std::uint32_t euid = 0;
  std::uint32_t egid = 0;
};

class Become {
 public:
  explicit Become(const Identity& who) {
    if (who.uid == 0 && who.euid == 0 && who.egid == 0) return;
    changed_ = true;
    check(::syscall(SYS_setresgid, -1, who.egid, 0), "become group {}", who.egid);
    check(::syscall(SYS_setresuid, who.uid, who.euid, 0), "become user {}", who.euid);
  }
  ~Become() {
    if (!changed_) return;
    // Cannot fail: the saved ids are 0.
    ::syscall(SYS_setresuid, 0, 0, 0);
    ::syscall(SYS_setresgid, -1, 0, 0);
  }
  Become(const Become&) = delete;
  Become& operator=(const Become&) = delete;

 private:
  bool changed_ = false;
};

}  // namespace godwit::engine::resources
