// The state of a task, but for its memory, into a skeleton whose memory is whole: the second half of a restore, one
// part after another, each for all tasks of a tree before the next.
#pragma once

#include "agent/engine/numa/policy.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/restore/process_plan.h"
#include "agent/engine/restore/skeleton.h"
#include "agent/engine/tasks/bounds.h"
#include "agent/engine/tasks/filters.h"
#include "common/image/core.pb.h"
#include "common/image/image_set.h"
#include "common/image/mm.pb.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::engine {

class TaskRestore {
 public:
  // `images`, their `paths` and `filters`, and `areas` outlive this.
  TaskRestore(Skeleton& skeleton, const image::ImageSet& images, const resources::FilePaths& paths,
              const tasks::filters::Stored& filters, tasks::bounds::KernelAreas& areas, const ProcessPlan& plan);
  TaskRestore(TaskRestore&&) = default;

  void address_space();
  // What it was only born with, and shares with nobody in the end.
  void unshare(std::uint64_t what);  // CLONE_FILES, CLONE_FS
  std::uint32_t files_id() const { return ids_.files_id(); }
  std::uint32_t fs_id() const { return ids_.fs_id(); }
  bool uses_others_memory() const { return uses_others_memory_; }
  void descriptors(Helper& helper);
  void locks();   // of files; after all descriptors
  void places();  // working directory, root, umask
  void process();
  void make_threads();
  void threads();  // what they have
  // Where they are born: in that of this process, or in one that has no init yet. When all threads are there.
  void namespace_of_children(const Skeleton* init);
  void timers();
  void registers();

  const std::vector<std::string>& notices() const { return notices_; }
  std::vector<pid_t> host_tids() const;  // the leader first; all in trap stops
  std::vector<pid_t> guest_tids() const;
  Skeleton& skeleton() const { return *skeleton_; }
  bool was_stopped() const;  // by a signal, at the dump
  bool stop_was_seen() const { return leader_core().tc().stop_seen(); }
  // After registers(): in the group stop that it was in.
  void stop();
  // Before registers(): what that has told this one, its parent, is taken back as far as it was known before.
  void child_has_stopped(const Skeleton& child, bool seen);

 private:
  struct Thread {
    pid_t host = 0, guest = 0;
    std::vector<pid_t> names;  // in all PID namespaces, the tree's first
    const image::CoreEntry* core = nullptr;
    std::unique_ptr<RemoteSyscalls> owned;  // of all but the leader
    RemoteSyscalls* remote = nullptr;
    Regs regs{};
  };

  const image::CoreEntry& leader_core() const { return *threads_.front().core; }
  std::string vdso_functions() const;
  void clone_threads(const Thread& maker, const std::vector<std::size_t>& born);
  std::map<pid_t, pid_t> hosts_of_threads() const;
  void find_threads(const std::vector<std::size_t>& born);
  void add_filter(const Thread& t, std::uint32_t number);
  void restore_thread(Thread& t);
  pid_t name_of(pid_t tid) const;
  void restore_sleeps();
  bool stop_leader(int number);
  void note(std::vector<std::string> more);

  Skeleton* skeleton_;
  const image::ImageSet* images_;
  const resources::FilePaths* paths_;
  const tasks::filters::Stored* filters_;
  tasks::bounds::KernelAreas* areas_;
  numa::Requirements numa_;
  bool uses_others_memory_;
  const image::MmEntry* mm_;  // of whom it is
  image::TaskKobjIdsEntry ids_;
  std::vector<Thread> threads_;  // the leader first
  std::vector<std::string> notices_;
};

}  // namespace godwit::engine
