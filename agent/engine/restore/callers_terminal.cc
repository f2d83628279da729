#include "agent/engine/restore/callers_terminal.h"

#include "agent/engine/resources/terminal.h"
#include "agent/engine/resources/terminal_restore.h"
#include "common/base/check.h"
#include "common/base/log.h"

#include <csignal>

#include <sys/ioctl.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

// Returns whether it was blocked before.
bool change_mask(int how) {
  sigset_t stop, before;
  ::sigemptyset(&stop);
  ::sigaddset(&stop, SIGTTOU);
  ::sigprocmask(how, &stop, &before);
  return ::sigismember(&before, SIGTTOU) == 1;
}

pid_t foreground_of(int fd) {
  pid_t group = 0;
  return ::ioctl(fd, TIOCGPGRP, &group) == 0 ? group : 0;
}

}  // namespace

// The kernel stops who changes a terminal, or writes to some, from the background, where we are once the job is in
// front.
CallersTerminal::CallersTerminal(int fd) : fd_(fd), was_blocked_(change_mask(SIG_BLOCK)) {}

CallersTerminal::~CallersTerminal() {
  try {
    if (!kept_) put_back();
  } catch (const Error& e) {
    log::warn("terminal.lost", {{"message", e.message()}});
  }
  if (!was_blocked_) change_mask(SIG_UNBLOCK);
}

void CallersTerminal::put_back() {
  take_back();
  if (before_) apply(*before_);
}

bool CallersTerminal::is_terminal(int fd) { return ::isatty(fd) == 1; }

bool CallersTerminal::controls_us(int fd) {
  pid_t session = 0;
  return ::ioctl(fd, TIOCGSID, &session) == 0 && session == ::getsid(0);
}

bool CallersTerminal::is_ours() const { return !controls_us(fd_) || foreground_of(fd_) == ::getpgrp(); }

void CallersTerminal::apply(const image::TtyInfoEntry& info) {
  const Doing doing("the terminal of this command");
  resources::terminal::set_state(fd_, info);
}

void CallersTerminal::set(const image::TtyInfoEntry& info) {
  wanted_ = info;
  if (!is_ours()) return;
  before_ = resources::terminal::state_of(fd_);
  apply(*wanted_);
  wanted_.reset();
}

void CallersTerminal::hand_over(pid_t group) {
  if (!controls_us(fd_) || !is_ours()) return;
  if (wanted_) set(*wanted_);
  if (group == ::getpgrp()) return;
  check(::ioctl(fd_, TIOCSPGRP, &group), "bring process group {} to the foreground", group);
  handed_over_ = true;
}

pid_t CallersTerminal::take_back() {
  if (!handed_over_) return 0;
  handed_over_ = false;
  const pid_t group = foreground_of(fd_), ours = ::getpgrp();
  return ::ioctl(fd_, TIOCSPGRP, &ours) == 0 ? group : 0;  // it may have been hung up
}

}  // namespace godwit::engine
