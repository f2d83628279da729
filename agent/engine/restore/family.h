// The skeletons of a tree: each a child of the right parent, in the right session and process group.
//
// A session can only be left, so who is in one that was made before him has to be born into it: a process becomes the
// leader of its session when the first child that belongs there is made, at the latest in the end. A session or group
// whose leader has ended is made by a stand-in with its PID, which ends when all members are there.
//
// A shell job's root is born in the session of whoever asks for the restore, with its terminal, and stays there; so do
// its children of the same session.
//
// Who comes late (processes are born and die while the source still runs) is made when its layout comes,
// or earlier, without memory, when others are to be born into what it leads. Who uses another's memory (CLONE_VM) is
// made last, when that is whole and its owner has entered its time namespace: nobody can who is not alone in his
// memory. One thread.
#pragma once

#include "agent/engine/restore/process_plan.h"
#include "agent/engine/restore/shell_job.h"
#include "agent/engine/restore/skeleton.h"

#include <map>
#include <memory>
#include <set>
#include <unordered_map>

namespace godwit::engine {

class Family {
 public:
  // `sibling`: the root becomes a child of our parent.
  Family(Helper& helper, RestoredSegments& segments, bool sibling, ShellJob job)
      : helper_(helper), segments_(segments), sibling_(sibling), job_(job) {}
  ~Family();  // children first

  void set_plan(TreePlan plan);
  const TreePlan& plan() const { return plan_; }
  pid_t parent_of(pid_t pid) const { return planned(pid).ppid; }
  std::optional<pid_t> namespace_of_children(pid_t pid) const { return planned(pid).init_of_children; }

  Skeleton* find(pid_t pid) const;
  Skeleton& of(pid_t pid) const;
  // The skeleton of a process of the plan, whose parent has one.
  Skeleton& make(pid_t pid, const Vmas& layout);
  // Whose memory it begins with, should it be made now; nullptr: nobody's.
  Skeleton* maker_of(pid_t pid) const;
  // A process of the source has ended.
  void remove(pid_t pid);

  // Last steps, with everybody there: sessions and groups, who is in the foreground of his terminal, and zombies from
  // their last words (core-PID.img).
  void settle(const image::ImageSet& images);
  // Which it is here. `callers`: the one that we are in.
  pid_t group_of(pid_t group) const;
  static constexpr pid_t callers = -1;
  // Somebody whose controlling terminal this is; null: nobody.
  Skeleton* anybody_at(int terminal) const;
  // What setting the size of a terminal tells those at it is not the program's.
  void drop_window_signals();

 private:
  struct Member {
    std::unique_ptr<Skeleton> skeleton;
    pid_t maker = 0;  // whose child it is; the helper's when there is nobody of that PID
    pid_t session = 0, group = 0;
    int terminal = -1;
  };
  Member& member(pid_t pid);
  const ProcessPlan& planned(pid_t pid) const;
  bool in_plan(pid_t pid) const;
  void remove_strangers();
  pid_t session_of(const ProcessPlan& p) const;
  std::vector<pid_t> names_of(pid_t number) const;
  std::string path_of(int terminal) const;
  Skeleton& add(pid_t pid, std::unique_ptr<Skeleton> skeleton, pid_t maker, pid_t session, pid_t group);
  std::unique_ptr<Skeleton> spawn(pid_t pid, const Vmas& layout);
  void enter_outer_group(const ProcessPlan& init);
  void make_early(pid_t pid);
  Skeleton* anybody_in(pid_t session, int terminal) const;
  Skeleton& make_orphan(const ProcessPlan& p, const Vmas& layout);
  std::unique_ptr<Skeleton> stand_in(Skeleton& parent, const Vmas& layout);
  void end_stand_in(std::unique_ptr<Skeleton> stand_in, Skeleton& parent);
  void lead_session(pid_t pid);
  void take_terminal(pid_t pid);
  Skeleton& inherited(pid_t pid, int terminal);
  void set_foreground(const image::ImageSet& images);
  void join_groups();
  void join_left_groups();
  void join(pid_t pid, pid_t group);
  void end_dead(const image::ImageSet& images);

  Helper& helper_;
  RestoredSegments& segments_;
  bool sibling_;
  ShellJob job_;
  TreePlan plan_;
  std::unordered_map<pid_t, std::size_t> place_;  // in the plan, by PID
  bool nested_ = false;                           // somebody of it has made a PID namespace
  std::map<pid_t, Member> members_;
  std::vector<pid_t> order_;  // of birth
  std::set<pid_t> early_;     // who is being made before its layout has come
};

}  // namespace godwit::engine
