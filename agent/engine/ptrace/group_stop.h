// The group stop under a hold: sends SIGSTOP, and waits until no thread comes to run its program any more.
#pragma once

#include "agent/engine/ptrace/journal.h"
#include "agent/engine/ptrace/tracing.h"

#include <sys/types.h>

namespace godwit::engine {

class GroupStop {
 public:
  // Of a process that runs. A SIGCONT that is pending then goes into the journal, because the stop destroys it.
  GroupStop(pid_t pid, Journal::Process& journal);

  // Returns when the first thread has stopped, or ended: from then on every other one stops before it runs its program,
  // and none can make another one. Nobody is seized until then: a thread that is gives the process signals that it
  // would ignore, for which a call of another thread returns EINTR. Errc::timed_out: it does not stop, as in vfork().
  void begin(const StopLimit& limit);
  // The same of one that somebody else has asked for; false: it seems that somebody has ended it.
  bool await(const StopLimit& limit) const;
  // Somebody else has ended it, and it may be begun again.
  void undone();

  bool sent() const { return sent_ > 0; }
  bool sent_again() const { return sent_ > 1; }  // one may wait in the queue of the process since it has stopped

 private:
  bool wait(const StopLimit& limit) const;
  bool seems_undone() const;
  void send(const StopLimit& limit);

  pid_t pid_;
  Journal::Process& journal_;
  bool continued_;  // a SIGCONT was pending
  unsigned sent_ = 0;
};

}  // namespace godwit::engine
