// A system call that this process may not use any more, as where a filter or a switch of the kernel forbids it.
#pragma once

#include "common/base/check.h"

#include <array>
#include <cstddef>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

namespace godwit::test {

// It is EPERM from now on, for good: to be called in a process of its own.
inline void forbid(unsigned call) {
  std::array<sock_filter, 4> code{
      {{.code = BPF_LD | BPF_W | BPF_ABS, .jt = 0, .jf = 0, .k = offsetof(seccomp_data, nr)},
       {.code = BPF_JMP | BPF_JEQ | BPF_K, .jt = 0, .jf = 1, .k = call},
       {.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = SECCOMP_RET_ERRNO | EPERM},
       {.code = BPF_RET | BPF_K, .jt = 0, .jf = 0, .k = SECCOMP_RET_ALLOW}}};
  const sock_fprog program{.len = code.size(), .filter = code.data()};
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up privileges to come");
  check(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "forbid a system call");
}

}  // namespace godwit::test
