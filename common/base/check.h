// Every system call is checked where it is made, with the words a person needs:
//
//   UniqueFd fd(check(::openat(dir, name, O_RDONLY | O_CLOEXEC), "open {}", name));
#pragma once

#include "common/base/error.h"

#include <cerrno>

namespace godwit {

// The Error for a failed call: "<what>: <strerror>", Errc chosen from errno (ENOSPC -> no_space,
// ESRCH -> target_gone, ...), sys_errno() kept.
Error syscall_error(int error_number, std::string what);

// Returns `result` unless it is the -1 of a failed call (errno is read before anything else runs).
template <class T, class... Args>
T check(T result, fmt::format_string<Args...> format, Args&&... args) {
  if (result != static_cast<T>(-1)) return result;
  const int e = errno;
  throw syscall_error(e, fmt::format(format, std::forward<Args>(args)...));
}

// For calls that return a negated errno (injected calls, liburing): returns `result` unless it is one.
template <class... Args>
long check_raw(long result, fmt::format_string<Args...> format, Args&&... args) {
  if (result >= 0 || result < -4095) return result;
  throw syscall_error(static_cast<int>(-result), fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace godwit
