// One process of a tree at the source, over all rounds: its memory and what is known of it between the stops.
#pragma once

#include "agent/engine/kinship.h"
#include "agent/engine/memories_seen.h"
#include "agent/engine/memory/task_memory.h"
#include "agent/engine/memory/mapping_policies.h"
#include "agent/engine/ptrace/hold.h"
#include "agent/engine/ptrace/remote_syscalls.h"
#include "agent/engine/resources/file_ids.h"
#include "common/base/fd.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

class SourceTask {
 public:
  // Errc::target_gone when it has ended.
  explicit SourceTask(const Relative& relative);

  pid_t pid() const { return pid_; }
  pid_t guest_pid() const { return guest_pid_; }
  int pidfd() const { return pidfd_.get(); }
  const Kinship& kinship() const { return kinship_; }
  // Another one's: it is never begun.
  bool uses_others_memory() const { return kinship_.memory != 0; }
  // Who uses the memory of this one, too, as of now.
  void used_by(std::vector<pid_t> others);

  // Nothing has been emitted yet, or all of it is forgotten.
  bool begun() const { return static_cast<bool>(memory_); }
  TaskMemory& memory() const { return *memory_; }
  // The destination may have built something of it, which has to be taken back when it ends.
  bool known() const { return known_; }
  void taken_back() { known_ = false; }
  // `userfaultfd` empty: not tracked. `ids` and `second` (Tracker) outlive this.
  void begin(UniqueFd userfaultfd, resources::FileIds& ids, Worker& second);
  void forget() { memory_.reset(); }
  bool has_ended() const;
  // False after an exec, and for another process of that PID.
  bool same_program() const;

  // It has run no program since it was forked: it may have pages in common with its parent, or with what that has
  // forked besides.
  bool forked_only() const { return forked_only_; }
  // The same of one that has no relatives but its parent.
  bool may_share_with_parent();
  // TaskMemory::look(), where that was not seen just now.
  void look(const MemoriesSeen& seen);

  // In the stopped process, before a round that it is stopped for.
  void ask_policies(Hold& hold, bool same_program);
  // In the stopped task. Empty where the kernel cannot track it, with a warning.
  UniqueFd make_userfaultfd(RemoteSyscalls& leader) const;

  // A round while it runs. `stop` holds it as long as what it returns exists.
  RoundCount running_round(PageSink& sink, const TaskMemory::Stop& stop);

 private:
  void know(const MemoriesSeen::Memory& seen);
  bool others_read_directly() const;

  pid_t pid_;
  UniqueFd pidfd_;
  pid_t guest_pid_;
  Kinship kinship_;
  MappingPolicies policies_;
  std::unique_ptr<TaskMemory> memory_;
  std::string program_;  // tells an exec: the new program has other bounds
  bool forked_only_ = false;
  std::vector<pid_t> others_;            // who use its memory, too
  std::optional<bool> like_its_parent_;  // once somebody has asked
  bool known_ = false;
  bool device_writes_ = false;  // or may: it was seen to read with O_DIRECT, or to have an AIO ring
};

}  // namespace godwit::engine
