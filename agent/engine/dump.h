// The source's side of one migration, or of one dump into a directory: rounds while the tree runs, then the freeze.
//
// After any exception the tree runs as before. One thread. The object may go away at any time: tracking ends, a tree
// that it holds is released; one that the freezer holds stays so.
#pragma once

#include "agent/engine/kinship.h"
#include "agent/engine/lasting_requests.h"
#include "agent/engine/memory/page_sink.h"
#include "agent/engine/memory/shared_memory.h"
#include "agent/engine/ptrace/held_tree.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/file_ids.h"
#include "agent/engine/source_task.h"
#include "agent/engine/steps.h"
#include "agent/engine/task_dump.h"
#include "common/base/worker.h"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace godwit::engine {

class Dump {
 public:
  Dump(pid_t pid, Orphans orphans, resources::Options options, Journal& journal);
  ~Dump();

  // Tracks, and emits what has changed since the last round (0: everything). The tree runs, but for a stop of a
  // millisecond of each process, and of those above it, when its tracking begins.
  RoundDone round(std::uint32_t number, PageSink& sink);

  // Instead of rounds: tracks, and tells how many bytes of private memory are dirty after a tenth, a third and all of
  // `length`: where the kernel cannot track, everything. The tree runs, but for the stop with which tracking begins,
  // and when this object goes, a process that wants to map or fault in memory waits for the kernel to unregister all of
  // its own (12 to 79 ms per GiB). `wait` passes the time. Errc::busy when somebody else tracks it.
  using Wait = std::function<void(std::chrono::milliseconds)>;
  std::vector<DirtyPoint> probe(std::chrono::milliseconds length, const Wait& wait);

  // What is carried may be decided anew before each freeze.
  void set_options(resources::Options options) { options_ = std::move(options); }
  void set_hold_limit(std::chrono::milliseconds limit) { hold_options_.limit = limit; }
  void set_most_bytes(std::uint64_t most) { most_bytes_ = most; }  // of the last difference, see Frozen; 0: no limit
  // Of a stop with a limit in bytes, until the last difference is stored at the destination, see Frozen; 0: no limit.
  void set_longest_stop(std::chrono::nanoseconds longest) { longest_stop_ = longest; }
  // Just now: the next freeze need not look at that again.
  void set_seen(MemoriesSeen seen) { seen_ = std::move(seen); }
  // Done just before each stop of a freeze, after the catching up.
  void set_before_stop(std::function<void()> action) { before_stop_ = std::move(action); }

  // To a live sink: first sends what was written meanwhile, the tree running, as long as that helps (a part of a
  // second). Then stops the tree and emits the last difference and all state. It is left stopped and traced; then one
  // of:
  struct Frozen {
    RoundDone round;
    Steps steps;
    std::uint64_t at_ns = 0;
    std::optional<RoundDone> caught_up;  // what a live stream was sent just before the stop
    // More than was allowed, or what there is took longer: there is no `round`, the tree runs on, and what was not sent
    // is owed to the next one.
    std::uint64_t over_bytes = 0;
    std::uint64_t stopped_ns = 0;  // then: how long it stood still
  };
  // `begin`: where nothing is tracked yet, tracking begins with what is emitted here.
  enum class Tracking { as_it_is = 1, begin };
  // What passes by itself (an exec, events or connections that wait to be taken) is waited for, the tree running on
  // between the attempts: Errc::busy, by name, when it is still there after `patience`.
  Frozen freeze(std::uint32_t number, PageSink& sink, std::chrono::milliseconds patience,
                Tracking tracking = Tracking::as_it_is);
  void hold_in(const Cgroup& cgroup);  // nothing borrowed any more, held by the freezer
  void release();                      // runs on
  void leave_stopped();                // nothing borrowed any more, held by SIGSTOP
  bool was_stopped(pid_t pid) const { return hold_->of(pid).was_stopped(); }  // before the freeze
  struct Ended {
    pid_t pid;
    std::uint64_t start_time;
  };
  struct Killed {
    std::vector<Ended> processes;
    std::uint64_t at_ns = 0;  // when the last one was told to end
  };
  Killed kill();  // and waits until all have gone

  // Undo of hold_in.
  void thaw();

  void acknowledged(std::uint64_t sequence);
  void owe_unacknowledged();

  // Whether the next round is a difference to what was emitted before: false after an exec, and where the kernel
  // cannot track.
  bool tracking();
  // Forgets all that was emitted: the next round is the first one again.
  void begin_again();
  // What the receiver has of each object once everything emitted has arrived. Valid until the next call.
  HeldPages held() const;
  std::vector<pid_t> pids() const;  // of the living, the root first

 private:
  static RoundDone describe(std::uint32_t number, const RoundCount& count);
  void look_at_tree(const std::vector<TreeMember>& tree, PageSink& sink);
  void forget(SourceTask& task, PageSink& sink);
  void forget_all(PageSink& sink);
  void forget_program(SourceTask& task, PageSink& sink);
  bool memory_has_gone(SourceTask& task, const Error& why, PageSink& sink);
  void find_users_of_memory();
  void track_new();
  std::uint64_t of_the_living(PageSink& sink, const std::function<std::uint64_t(SourceTask&)>& count);
  std::shared_ptr<HeldTree> hold(std::set<pid_t> only = {});
  Frozen freeze_once(std::uint32_t number, PageSink& sink, Tracking tracking, bool& emitting);
  void try_again_without_the_dead(const Error& why) const;
  std::vector<tasks::FactsReader::Thread> held_threads() const;
  std::vector<resources::StoppedTask> stopped_tasks() const;
  void dump_stop(const Hold& hold, image::CoreEntry& core, pid_t pid) const;
  // `witnesses`: of those whose first stop this is.
  void dump_state(tasks::FactsReader& facts, const std::map<pid_t, tasks::Witnesses>& witnesses,
                  image::ImageSet& images);
  void begin_untracked(PageSink& sink);
  void run_on(Frozen& frozen, std::uint64_t over_bytes, PageSink& sink);
  std::uint64_t owed_bytes() const;
  bool may_run_on() const { return most_bytes_ > 0 && longest_stop_.count() > 0; }  // when that has taken too long
  void catch_up(std::uint32_t number, PageSink& sink);
  std::uint64_t catch_up_once(std::uint32_t number, PageSink& sink);  // pages
  RoundCount emit_running(PageSink& sink);
  RoundCount emit_frozen(PageSink& sink);
  RoundCount emit_running_tasks(PageSink& sink);
  RoundCount emit_frozen_tasks(PageSink& sink);
  void spare_shared_pages();
  void leave_out_scratch();
  void emit_shared(PageSink& sink, bool frozen, std::uint64_t most, RoundCount& count);
  bool all_acknowledged() const;

  pid_t pid_;
  Orphans orphans_;
  resources::Options options_;
  HoldOptions hold_options_;
  Journal& journal_;
  resources::FileIds ids_;
  Worker second_;                                   // scans half of a large memory
  std::vector<Relative> tree_;                      // as of the last look
  std::vector<std::unique_ptr<SourceTask>> tasks_;  // the living of them, in that order
  SharedMemory shared_;
  std::uint64_t dirty_bytes_ = 0;  // after the last round
  std::uint64_t most_bytes_ = 0;
  std::chrono::nanoseconds longest_stop_{0};
  std::function<void()> before_stop_;
  MemoriesSeen seen_;
  LastingRequests requests_;
  std::optional<RoundDone> caught_up_;
  std::map<pid_t, InterruptedCalls> calls_;  // from one stop of a process to the next
  std::shared_ptr<HeldTree> hold_;
  std::optional<Cgroup> cgroup_;
};

}  // namespace godwit::engine
