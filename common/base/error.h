// Failures are exceptions with context.
//
// An Error carries a stable public code (Errc), a sentence, a hint and the trail of `Doing` scopes that
// were open on this thread when it was made:
//
//   restoring task 42: fd 7: open /nonexistent: No such file or directory
//
// `Doing` is thread-local and for synchronous code only: a coroutine that suspends inside the scope
// would leak its context into whatever runs next.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace godwit {

// Public and stable: printed by the CLI, sent on the wire by name, listed in docs/errors.md.
enum class Errc {
  unsupported = 1,   // a kind of state that cannot be carried; always named
  refused,           // preflight or policy said no; nothing was touched
  invalid_argument,  // bad command line, request or configuration
  not_found,         // no such workload, node, process or file
  already_exists,    // PID taken, migration already running, name in use
  target_gone,       // the process ended while it was being worked on
  image_corrupt,     // a file or a run of pages failed its check
  kernel_missing,    // this kernel lacks something that is needed
  peer_lost,         // connection broken or never made
  denied,            // certificate, role or token not accepted
  protocol,          // the peer said something that the protocol does not allow
  no_space,          // disk, tmpfs or memory is full
  timed_out,
  cancelled,
  busy,      // try again later: a child exists at the freeze, a migration is under way
  internal,  // our bug, or a system call that failed for a reason nobody foresaw
};

std::string_view name(Errc code);
Errc errc_from_name(std::string_view name);  // unknown names are Errc::internal
const std::error_category& error_category();
inline std::error_code make_error_code(Errc code) { return {static_cast<int>(code), error_category()}; }

class Error : public std::system_error {
 public:
  Error(Errc code, std::string message, std::string hint = {});

  Errc errc() const { return static_cast<Errc>(code().value()); }
  const std::string& message() const { return message_; }  // the sentence, with the trail in front
  const std::string& hint() const { return hint_; }        // what the operator can do; may be empty
  int sys_errno() const { return sys_errno_; }             // errno of the failed call, 0 when none
  const char* what() const noexcept override { return message_.c_str(); }

  Error& with_errno(int e) {
    sys_errno_ = e;
    return *this;
  }

 private:
  std::string message_;
  std::string hint_;
  int sys_errno_ = 0;
};

// Names what the code in this scope is doing; every Error made below says so.
class Doing {
 public:
  template <class... Args>
  explicit Doing(fmt::format_string<Args...> format, Args&&... args) {
    push(fmt::format(format, std::forward<Args>(args)...));
  }
  ~Doing();
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;

 private:
  static void push(std::string what);
};

template <class... Args>
[[noreturn]] void fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace godwit

template <>
struct std::is_error_code_enum<godwit::Errc> : std::true_type {};
