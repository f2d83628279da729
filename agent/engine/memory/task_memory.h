// The memory of one task at the source, over all rounds of a migration: layout and private pages. What it shares with
// others is in shared_memory.h, for a whole tree.
//
// A round emits the layout first (files named "layout-...", the mm image last), then what was written since the round
// before. Rounds may run while the task runs; the last one must find it stopped. Nothing here changes the task: the
// userfaultfd is made by inject_userfaultfd (tracker.h).
#pragma once

#include "agent/engine/memory/dump_sink.h"
#include "agent/engine/memory/mapping_policies.h"
#include "agent/engine/memory/page_emitter.h"
#include "agent/engine/memory/process_reader.h"
#include "agent/engine/memory/shared_memory.h"
#include "agent/engine/memory/tracker.h"
#include "agent/engine/memory/vma_image.h"
#include "agent/engine/resources/file_ids.h"
#include "common/image/mm.pb.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

inline constexpr std::string_view layout_prefix = "layout-";

struct RoundCount {
  EmitCount emitted;
  ScanCount scanned;
  std::uint64_t nanoseconds = 0;  // of a whole tree
  std::uint64_t over_bytes = 0;   // of a round that was given up for its size: what was found by then

  void add(const RoundCount& other);
};

class TaskMemory {
 public:
  // `userfaultfd` empty: no tracking, every round sends everything. `ids` and `second` (Tracker) outlive this.
  TaskMemory(pid_t pid, pid_t guest_pid, UniqueFd userfaultfd, resources::FileIds& ids, Worker* second = nullptr);

  // Tracks from the next round on, which must be the first one.
  void track(UniqueFd userfaultfd) { tracker_.use(std::move(userfaultfd)); }

  // Reads maps anew, and smaps when a mapping looks different. Flags of mappings may change without that: before a
  // frozen round, call look() while the task still runs.
  RoundCount round(PageSink& sink, bool frozen);
  // A frozen one in two halves, so that it can be given up between them: what the scan finds is owed until it is sent.
  RoundCount scan_last(PageSink& sink);
  std::uint64_t owed_bytes() const { return owed_.size() * page_size; }
  RoundCount send_owed(PageSink& sink);
  void look();
  void know(const std::vector<proc::VmaUsage>& smaps) { flags_.learn(smaps); }        // somebody else looked
  void describe_policies(const MappingPolicies& policies) { policies_ = &policies; }  // which outlive this
  // In frozen rounds: mappings of the engine's own, which are no part of it.
  void leave_out(std::uint64_t start, std::uint64_t end) { ours_ = {start, end}; }
  // What is written from here on is dirty, and nothing before; for dirty_bytes(), without a round.
  void begin_count();
  // A round whose scan, but not the copying, needs the task to stand still while what `stop` returns exists.
  using Stop = std::function<std::shared_ptr<void>()>;
  RoundCount round_with_stop(PageSink& sink, const Stop& stop);
  // What the scans so far have said is not to be relied upon: the next round sends everything.
  void start_over() { tracker_.forget(); }
  std::vector<std::uint64_t> take_new_mappings() { return tracker_.take_new(); }  // Tracker::take_new()
  bool tracked() const { return tracker_.tracking(); }
  // Whether another process may have pages in common with it since a fork (ProcessReader).
  void spare_shared(bool may_share) { process_.spare_shared(may_share ? tracker_.pagemap() : -1); }
  // Pages are read by this from now on. For tests.
  void read_by(std::unique_ptr<PageReader> reader) {
    other_reader_ = std::move(reader);
    reader_ = other_reader_.get();
  }

  // False once the task runs another program: an exec gives it another address space, even where all addresses are the
  // same (no address space randomization).
  bool still_there() const;

  // The mappings as of the last round, for mm-PID.img.
  void describe(image::MmEntry& mm) const;
  const std::vector<proc::Vma>& maps() const { return maps_; }
  pid_t guest_pid() const { return guest_pid_; }

  // Adds the shared memory that it has mapped to `shared`, and where the mappings of each end to `ends`.
  void find_segments(bool frozen, SharedMemory& shared, std::map<std::uint64_t, std::uint64_t>& ends) const;

  void acknowledged(std::uint64_t sequence) { debt_.acknowledge(sequence); }
  bool all_acknowledged() const { return debt_.empty(); }
  // What the receiver has of each object once everything emitted has arrived. Borrowed.
  HeldPages held() const;
  // What would be sent now; does not consume anything.
  std::uint64_t dirty_bytes();
  // The stream to the receiver broke: all that is not acknowledged is sent again by the next round.
  void owe_unacknowledged();

 private:
  std::vector<proc::Vma> without_ours(std::vector<proc::Vma> maps, bool frozen) const;
  std::vector<proc::Vma> look_again();  // smaps: mappings with their flags, both from one read
  RoundCount round(PageSink& sink, bool frozen, const Stop* stop);
  pagewire::ObjectId object() const;
  void emit_owed(PageEmitter& emitter);
  void owe_missed(const PageEmitter& emitter);
  void require_all(const PageEmitter& emitter) const;
  void read_layout(bool frozen);
  PageSet emit_layout(PageSink& sink);  // returns sent_of_renamed()
  PageSet sent_of_renamed(const image::MmEntry& next);
  void owe_renamed(const PageSet& sent);

  pid_t pid_;
  pid_t guest_pid_;
  resources::FileIds& ids_;
  VmaImager imager_;
  VmaFlags flags_;
  const MappingPolicies* policies_ = nullptr;
  Tracker tracker_;
  Debt debt_;
  PageSet sent_;
  PageSet owed_;
  struct FileMapping {
    std::uint64_t start, end;
    std::uint64_t file_id;
  };
  std::vector<FileMapping> of_files_;  // private ones, as the receiver has them
  UniqueFd memory_;
  ProcessReader process_;
  std::unique_ptr<PageReader> other_reader_;
  PageReader* reader_;
  std::vector<proc::Vma> maps_;
  std::pair<std::uint64_t, std::uint64_t> ours_{};
};

// All shared memory of a tree: what its tasks have mapped, and memfds that somebody has a descriptor of.
void find_shared_memory(const std::vector<const TaskMemory*>& tasks, const resources::FileIds& ids, bool frozen,
                        SharedMemory& shared);

}  // namespace godwit::engine
