// The destination's side: prepare, absorb, finish. A plain restore from a directory is the same three in a row.
//
// Frames come through FrameTarget in sequence order. The skeleton of a process is made when its first layout is known
// and filled as pages arrive; finish() gives all of them everything else. Until then they die with this object. For one
// thread; of a directory's pages a second one puts some in place (restore/directory_pages.h).
#pragma once

#include "agent/engine/memory/absorber.h"
#include "agent/engine/ptrace/cgroup.h"
#include "agent/engine/restore/callers_terminal.h"
#include "agent/engine/restore/directory_pages.h"
#include "agent/engine/restore/family.h"
#include "agent/engine/restore/foreign_state.h"
#include "agent/engine/restore/task_restore.h"
#include "agent/engine/steps.h"
#include "common/image/image_set.h"
#include "common/image/page_levels.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace godwit::engine {

struct Surroundings {
  UniqueFd init;         // pidfd of the init of the workload's namespaces; empty: ours
  bool sibling = false;  // the root becomes a child of our parent
  std::string cgroup;    // absolute path, where the tasks are born and later frozen; empty: ours, and they run at once
};

class Restore : public FrameTarget {
 public:
  explicit Restore(Surroundings surroundings);

  void pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs, std::span<const std::byte> data) override;
  void zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  void drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  void file(std::string_view name, std::uint64_t offset, std::span<const std::byte> part, bool last) override;
  void round_ended(std::uint32_t) override {}

  // A directory in the place of frames. load() reads the state images, with nothing made yet; absorb_directory() makes
  // the skeleton and fills it.
  const image::ImageSet& load(int directory);
  const image::ImageSet& images() const { return images_; }
  // Returns how many pages.
  std::uint64_t absorb_directory(int directory, const DirectoryPages::Frees& frees = {});

  // Everything else, then the tasks are let go of: held by the freezer of their cgroup, or running when there is none.
  // They need no engine any more. `before_it_runs` gets the root's PID; when it throws, nothing is left of the tree.
  Prepared finish(const std::function<void(pid_t)>& before_it_runs = {});

  // Where the tree is made, before the first layout comes: the pidfd of the init of its namespaces.
  void set_init(UniqueFd init) { surroundings_.init = std::move(init); }
  void make_sibling() { surroundings_.sibling = true; }
  // Those of our own session and terminal take part. The terminal outlives this; null: the images have none.
  void make_shell_job(ShellJob job, CallersTerminal* terminal);
  // Of a shell job that is whole: the root's process group, and the one that was in the foreground, or else the root's.
  struct JobGroups {
    pid_t root = 0, front = 0;
  };
  JobGroups job_groups() const;
  void leave_stopped() { leave_stopped_ = true; }                   // none runs before a SIGCONT
  void close_connections() { connections_ = Connections::closed; }  // those of CRIU's images

 private:
  void layout_file(const std::string& name, std::string content);
  void apply_layout(pid_t pid, const Vmas& vmas, const image::ImageSet& files);
  void begin(TreePlan plan);
  struct Shared;
  static const Shared shared_tables, shared_places;
  std::vector<TaskRestore*> share_out(std::vector<TaskRestore>& tasks, const Shared& shared) const;
  bool any_stands_for_a_thread() const;
  void restore_all(std::vector<TaskRestore>& tasks, Steps& steps);
  void adopt_current_terminals();
  void join_clocks();
  void check_shared_memory(const std::vector<TaskRestore>& tasks) const;
  void let_go(const std::vector<TaskRestore>& tasks);
  static Prepared describe(const std::vector<TaskRestore>& tasks);
  Family& family();
  AddressSpace& memory_of(pagewire::ObjectId object);

  Surroundings surroundings_;
  ShellJob job_;
  CallersTerminal* terminal_ = nullptr;
  bool leave_stopped_ = false;
  Connections connections_ = Connections::refused;
  UniqueFd cgroup_directory_;
  std::map<std::string, std::string, std::less<>> partial_;  // files of which parts are missing
  image::ImageSet layout_files_;
  image::ImageSet images_;
  std::unique_ptr<Helper> helper_;
  std::unique_ptr<RestoredSegments> segments_;
  std::unique_ptr<Family> family_;
};

}  // namespace godwit::engine
