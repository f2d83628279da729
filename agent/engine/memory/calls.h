// Many injected calls through one batch that is run whenever it is full.
#pragma once

#include "agent/engine/ptrace/remote_syscalls.h"

namespace godwit::engine {

class Calls {
 public:
  Calls(RemoteSyscalls& remote, RemoteAddr scratch) : remote_(remote), batch_(scratch) {}
  // With room for one more call and `bytes` of data.
  Batch& room(std::size_t bytes = 0) {
    if (!batch_.fits(1, bytes + 64)) run();
    return batch_;
  }
  void run() {
    remote_.run(batch_);
    batch_.clear();
  }

 private:
  RemoteSyscalls& remote_;
  Batch batch_;
};

}  // namespace godwit::engine
