// A task under construction: born with its PID, traced, its memory empty but for the scratch mapping.
//
// It dies with the engine (EXITKILL) until detach(). One thread.
#pragma once

#include "agent/engine/memory/address_space.h"
#include "agent/engine/restore/helper.h"

#include <memory>

namespace godwit::engine {

class Skeleton {
 public:
  // `layout`: what its mappings are going to be, so that the scratch memory is out of their way.
  Skeleton(SpawnRequest request, const Vmas& layout);

  AddressSpace& memory() { return *memory_; }
  RemoteSyscalls& leader() { return *leader_; }
  RemoteAddr scratch() const { return scratch_; }
  Helper& helper() { return *helper_; }
  pid_t pid() const { return helper_->host_pid(); }

  // The next layout may want the place of the scratch memory: then that moves.
  void make_room_for(const Vmas& layout);

  // The scratch memory goes; the leader's last calls run from the vdso at `syscall_instruction`.
  void drop_scratch(RemoteAddr syscall_instruction);

 private:
  void clear();

  RemoteAddr scratch_{};
  std::unique_ptr<Helper> helper_;
  std::unique_ptr<RemoteSyscalls> leader_;
  std::unique_ptr<AddressSpace> memory_;
};

}  // namespace godwit::engine
