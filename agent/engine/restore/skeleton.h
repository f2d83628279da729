// A task under construction: born with its PID, traced, its memory empty but for the scratch mapping.
//
// It dies with this object, and with the engine (EXITKILL), until dismissed. One thread.
#pragma once

#include "agent/engine/memory/address_space.h"
#include "agent/engine/restore/helper.h"

#include <memory>

namespace godwit::engine {

class Skeleton {
 public:
  // One without a parent in the tree, made by the helper. `layout`: what its mappings are going to be, so that the
  // scratch memory is out of their way.
  Skeleton(Helper& helper, SpawnRequest request, const Vmas& layout, RestoredSegments& segments);
  // A child of `parent`, with its table of descriptors, its working directory (CLONE_FILES, CLONE_FS) or copies of
  // them, and with what `layout` has of its memory. `names`: in all PID namespaces, the tree's first; if it has one
  // more than its parent, it becomes the init of a new one. With CLONE_VM it uses the parent's memory, and `layout` is
  // of no account. Errc::already_exists when the PID is taken.
  Skeleton(Skeleton& parent, std::vector<pid_t> names, const Vmas& layout, RestoredSegments& segments,
           std::uint64_t shared = 0);
  ~Skeleton();
  Skeleton(const Skeleton&) = delete;
  Skeleton& operator=(const Skeleton&) = delete;

  AddressSpace& memory() { return *memory_; }
  RemoteSyscalls& leader() { return *leader_; }
  RemoteAddr scratch() const { return scratch_; }
  pid_t pid() const { return pid_; }  // host
  pid_t guest_pid() const { return names_.front(); }
  bool in_our_namespace() const { return in_our_namespace_; }  // the tree's: we know it by the same PID
  // In all PID namespaces that it is in, from the tree's down to its own.
  const std::vector<pid_t>& names() const { return names_; }
  // Of what `names` are, that by which this process knows it; 0: none.
  pid_t name_here(const std::vector<pid_t>& names) const {
    return names.size() < names_.size() ? 0 : names[names_.size() - 1];
  }
  // What the tree knows of an id whose list (proc::Status) is that of this process.
  pid_t name_in_tree(const std::vector<pid_t>& ids) const;

  // A descriptor of the helper, to be closed again: in a nested namespace nobody can call it by its PID.
  int open_helper(pid_t helper);
  int kept_helper() const { return helper_; }
  // It enters this namespace, a descriptor of the helper. While it is alone in its memory, with one thread.
  void join_time_namespace(pid_t helper, int time_namespace);

  // The next layout may want the place of the scratch memory: then that moves.
  void make_room_for(const Vmas& layout);

  // The scratch memory goes, unless it is in another's memory; the leader's last calls run from the vdso at
  // `syscall_instruction`.
  void drop_scratch(RemoteAddr syscall_instruction);

  void dismiss() { dismissed_ = true; }  // it lives on
  // It ends in this way (a status of wait(2)) and is a zombie of its parent from then on.
  void end(int status);

 private:
  void begin(RestoredSegments& segments, bool shares_table, AddressSpace::Inherited inherited);
  void kill() noexcept;

  RemoteAddr scratch_{};
  std::vector<pid_t> names_;
  bool in_our_namespace_;
  int helper_ = -1;  // in a nested namespace: inherited, a pidfd of the helper
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  std::unique_ptr<RemoteSyscalls> leader_;
  std::shared_ptr<AddressSpace> memory_;  // that of all who use it is filled through the first one
  bool uses_others_memory_ = false;
  bool dismissed_ = false;
};

}  // namespace godwit::engine
