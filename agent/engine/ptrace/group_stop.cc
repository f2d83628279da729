#include "agent/engine/ptrace/group_stop.h"

#include "agent/engine/ptrace/kept_signals.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <array>
#include <csignal>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/ptrace.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

// The letter behind the name of /proc/PID/task/TID/stat; X when there is no such thread any more.
char state_in(int stat) {
  std::array<char, 64> text;  // the name takes at most 17
  const ssize_t n = ::pread(stat, text.data(), text.size(), 0);
  if (n < 0 && errno == ESRCH) return 'X';
  const std::string_view found(text.data(), static_cast<std::size_t>(check(n, "read the state of a thread")));
  const std::size_t at = found.rfind(") ");
  if (at == found.npos || at + 2 >= found.size()) fail(Errc::internal, "cannot understand /proc stat: \"{}\"", found);
  return found[at + 2];
}

}  // namespace

GroupStop::GroupStop(pid_t pid, Journal::Process& journal)
    : pid_(pid), journal_(journal), continued_(any_pending(pid, continue_signal)) {}

void GroupStop::begin(const StopLimit& limit) {
  send(limit);
  while (!wait(limit)) {
    if (!seems_undone()) continue;
    undone();
    send(limit);
  }
}

bool GroupStop::await(const StopLimit& limit) const {
  while (!wait(limit))
    if (seems_undone()) return false;
  return true;
}

void GroupStop::undone() { continued_ = any_pending(pid_, continue_signal); }

// False: not soon.
bool GroupStop::wait(const StopLimit& limit) const {
  constexpr int looks_at_once = 50, most_looks = looks_at_once + 10;
  const UniqueFd stat = proc::Reader(pid_, pid_).open("stat", O_RDONLY);
  for (int looks = 0; looks < most_looks; looks++) {
    const char state = state_in(stat.get());
    if (state == 'T' || state == 't') return true;
    if (state == 'Z' || state == 'X') fail(Errc::target_gone, "the first thread of process {} has ended", pid_);
    if (limit.over()) fail_to_stop(pid_, pid_, limit);
    ::usleep(looks < looks_at_once ? 10 : 500);  // not a yield: it may be waiting for this CPU
  }
  return false;
}

// By a SIGCONT from elsewhere. Of a thread that runs it may not be true: it is in a long call, or has no CPU.
bool GroupStop::seems_undone() const {
  const proc::Status status = proc::Reader(pid_).status();
  return std::string_view("SR").contains(status.state) && !(status.shared_sig_pending & signal_bit(SIGSTOP));
}

// When a SIGCONT is pending the threads stand still from before it is read until the stop has been sent: none can take
// it in between, and once more afterwards.
void GroupStop::send(const StopLimit& limit) {
  std::vector<pid_t> standing;
  if (continued_) standing = seize_threads(pid_, PTRACE_O_TRACESYSGOOD, limit);
  try {
    if (continued_) keep_pending(journal_, pid_, standing, continue_signal);
    check(::kill(pid_, SIGSTOP), "stop process {}", pid_);
    sent_++;
  } catch (...) {
    detach_threads(standing);
    throw;
  }
  detach_threads(standing);
}

}  // namespace godwit::engine
