#pragma once
// Threads that wait while the process is moved: some until something happens, some until their time is over.

#include "tests/workloads/blocked_call.h"

#include <list>

namespace godwit::workloads {

struct Waits {
  static constexpr int seconds = 3;            // of those whose time ends
  static constexpr double before_ready = 1.2;  // so much of it is over when the workload is ready

  std::list<BlockedCall> endless, timed;

  // Up to the end of all of them. `happen` lets the endless ones come back, each with 1; the timed ones say 0.
  template <class Happen>
  void across_the_move(Workload& w, Happen happen) const {
    for (const BlockedCall& call : endless) call.settle();
    for (const BlockedCall& call : timed) call.settle();
    pause_for(before_ready);

    w.ready();
    w.wait_for_verify();
    for (const BlockedCall& call : endless) call.still_blocked(w);
    happen();
    for (const BlockedCall& call : endless) call.comes_back(w, 1);
    for (const BlockedCall& call : timed)
      if (call.comes_back(w, 0, seconds + 5)) call.took(w, seconds);
  }
};

}  // namespace godwit::workloads
