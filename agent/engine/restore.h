// The destination's side: prepare, absorb, finish. A plain restore from a directory is the same three in a row.
//
// Frames come through FrameTarget in sequence order. The skeleton is made when the first layout is known and filled as
// pages arrive; finish() gives it everything else. Until then it dies with this object. One thread.
#pragma once

#include "agent/engine/memory/absorber.h"
#include "agent/engine/ptrace/cgroup.h"
#include "agent/engine/restore/skeleton.h"
#include "agent/engine/restore/task_restore.h"
#include "agent/engine/steps.h"
#include "common/image/image_set.h"
#include "common/image/page_levels.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace godwit::engine {

struct Surroundings {
  UniqueFd init;         // pidfd of the init of the workload's namespaces; empty: ours
  bool sibling = false;  // the task becomes a child of our parent
  std::string cgroup;    // absolute path, where the task is born and later frozen; empty: ours, and it runs at once
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
  // `access`: whether pages are freed in their files as they are read. Returns how many pages.
  std::uint64_t absorb_directory(int directory, image::PagesAccess access = image::PagesAccess::read);

  // Everything else, then the task is let go of: held by the freezer of its cgroup, or running when there is none. It
  // needs no engine any more. `before_it_runs` gets its PID; when it throws, nothing is left of the task.
  Prepared finish(const std::function<void(pid_t)>& before_it_runs = {});

  // Where the task is made, before the first layout comes: the pidfd of the init of its namespaces.
  void set_init(UniqueFd init) { surroundings_.init = std::move(init); }
  void make_sibling() { surroundings_.sibling = true; }
  void leave_stopped() { leave_stopped_ = true; }  // it does not run before a SIGCONT

 private:
  void layout_file(const std::string& name, std::string content);
  void apply_layout(const Vmas& vmas, const image::ImageSet& files);
  void let_go(const RestoredTask& task);
  Skeleton& skeleton();

  Surroundings surroundings_;
  bool leave_stopped_ = false;
  UniqueFd cgroup_directory_;
  std::map<std::string, std::string, std::less<>> partial_;  // files of which parts are missing
  image::ImageSet layout_files_;
  image::ImageSet images_;
  pid_t guest_pid_ = 0;
  std::unique_ptr<Skeleton> skeleton_;
};

}  // namespace godwit::engine
