// The source's side of one migration, or of one dump into a directory: rounds while the task runs, then the freeze.
//
// After any exception the task runs as before. One thread. The object may go away at any time: tracking ends, a task
// that it holds is released; a task that the freezer holds stays so.
#pragma once

#include "agent/engine/memory/page_sink.h"
#include "agent/engine/memory/task_memory.h"
#include "agent/engine/ptrace/hold.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/file_ids.h"
#include "agent/engine/steps.h"
#include "agent/engine/task_dump.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace godwit::engine {

class Dump {
 public:
  Dump(pid_t pid, resources::Options options, Journal& journal);
  ~Dump();

  // Tracks, and emits what has changed since the last round (0: everything). The task runs, but for a stop of a
  // millisecond when tracking begins.
  RoundDone round(std::uint32_t number, PageSink& sink);

  // What is carried may be decided anew before each freeze.
  void set_options(resources::Options options) { options_ = std::move(options); }
  void set_hold_limit(std::chrono::milliseconds limit) { hold_options_.limit = limit; }
  void set_most_bytes(std::uint64_t most) { most_bytes_ = most; }  // of the last difference, see Frozen; 0: no limit
  // Done just before each stop of a freeze, after the catching up.
  void set_before_stop(std::function<void()> action) { before_stop_ = std::move(action); }

  // To a live sink: first sends what was written meanwhile, the task running, as long as that helps (a part of a
  // second). Then stops the task and emits the last difference and all state. It is left stopped and traced; then one
  // of:
  struct Frozen {
    RoundDone round;
    Steps steps;
    std::uint64_t at_ns = 0;
    std::optional<RoundDone> caught_up;  // what a live stream was sent just before the stop
    // More than was allowed: there is no `round`, the task runs on, and what was not sent is owed to the next one.
    std::uint64_t over_bytes = 0;
    std::uint64_t stopped_ns = 0;  // then: how long it stood still
  };
  // `begin`: where nothing is tracked yet, tracking begins with what is emitted here.
  enum class Tracking { as_it_is = 1, begin };
  // What passes by itself (a child, events or connections that wait to be taken) is waited for, the task running on
  // between the attempts: Errc::busy, by name, when it is still there after `patience`.
  Frozen freeze(std::uint32_t number, PageSink& sink, std::chrono::milliseconds patience,
                Tracking tracking = Tracking::as_it_is);
  void hold_in(const Cgroup& cgroup);  // nothing borrowed any more, held by the freezer
  void release();                      // runs on
  void leave_stopped();                // nothing borrowed any more, held by SIGSTOP
  void kill();                         // and waits until it is gone

  // Undo of hold_in.
  void thaw();

  void acknowledged(std::uint64_t sequence);
  void owe_unacknowledged();

  // Whether the next round is a difference to what was emitted before: false after an exec.
  bool tracking();
  // Forgets all that was emitted: the next round is the first one again.
  void begin_again() { memory_.reset(); }
  // What the receiver has of each object once everything emitted has arrived. Valid until the next call.
  HeldPages held() const;

 private:
  void track();
  void begin_memory(UniqueFd userfaultfd);
  UniqueFd make_userfaultfd(RemoteSyscalls& leader);
  Frozen freeze_once(std::uint32_t number, PageSink& sink, Tracking tracking, bool& emitting);
  void run_on(Frozen& frozen, const RoundCount& count, PageSink& sink);
  void catch_up(std::uint32_t number, PageSink& sink);
  std::uint64_t catch_up_once(std::uint32_t number, PageSink& sink);  // pages
  RoundCount emit_round(PageSink& sink, bool frozen);
  RoundCount running_round(PageSink& sink);
  bool same_program();

  pid_t pid_;
  resources::Options options_;
  HoldOptions hold_options_;
  Journal& journal_;
  InterruptedCalls calls_;
  UniqueFd pidfd_;
  resources::FileIds ids_;
  std::unique_ptr<TaskMemory> memory_;
  std::string program_;            // tells an exec: the new program has other bounds
  bool direct_reads_ = false;      // seen a descriptor that reads with O_DIRECT
  std::uint64_t dirty_bytes_ = 0;  // after the last round
  std::uint64_t most_bytes_ = 0;
  std::function<void()> before_stop_;
  std::optional<RoundDone> caught_up_;
  std::unique_ptr<Hold> hold_;
  std::optional<Cgroup> cgroup_;
};

}  // namespace godwit::engine
