// Questions to a stopped thread: system calls in one batch, each with what is to be done with its answer.
//
//   Inquiry ask(remote, scratch);
//   const std::size_t brk = ask.batch().add("brk", SYS_brk, 0);
//   ask.then([&mm, brk](const Batch& b) { mm.set_mm_brk(b.result(brk)); });
//   ask.run();
#pragma once

#include "agent/engine/ptrace/remote_syscalls.h"

#include <functional>
#include <vector>

namespace godwit::engine::tasks {

class Inquiry {
 public:
  Inquiry(RemoteSyscalls& remote, RemoteAddr scratch) : remote_(remote), batch_(scratch) {}

  Batch& batch() { return batch_; }
  void then(std::function<void(const Batch&)> answer) { answers_.push_back(std::move(answer)); }
  void run() {
    remote_.run(batch_);
    for (const auto& answer : answers_) answer(batch_);
    answers_.clear();
    batch_.clear();
  }

 private:
  RemoteSyscalls& remote_;
  Batch batch_;
  std::vector<std::function<void(const Batch&)>> answers_;
};

}  // namespace godwit::engine::tasks
