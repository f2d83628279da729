// Puts pages into empty memory of a stopped task by userfaultfd: the kernel takes a page that it need not zero first
// and installs it without a fault, a quarter cheaper than process_vm_writev.
//
// Only for private anonymous mappings. While a mapping is registered nothing else may touch what is missing in it
// (EFAULT), so release() comes before anything does. For one thread; a large piece is placed by two CPUs.
#pragma once

#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/base/fd.h"
#include "common/base/worker.h"

#include <cstdint>
#include <optional>
#include <span>

namespace godwit::engine {

class PagePlacer {
 public:
  // Both borrowed, of the task.
  PagePlacer(RemoteSyscalls& remote, int pidfd) : remote_(remote), pidfd_(pidfd) {}

  // Places pages from `address` on, at most up to the first page that is there already: how many bytes. [start, end) is
  // the mapping that they lie in. Nothing where the kernel does not do it for this mapping, or at all.
  std::optional<std::size_t> place(std::uint64_t start, std::uint64_t end, std::uint64_t address,
                                   std::span<const std::byte> data);

  // Nothing is registered any more: before the mappings change.
  void release();
  // Nothing is placed any more.
  void forgo();

 private:
  bool registered(std::uint64_t start, std::uint64_t end);
  std::size_t copy(std::uint64_t address, std::span<const std::byte> data);
  std::size_t copy_by_two(std::uint64_t address, std::span<const std::byte> data);

  RemoteSyscalls& remote_;
  int pidfd_;
  UniqueFd userfaultfd_;
  bool unavailable_ = false;
  std::uint64_t start_ = 0, end_ = 0;  // registered last
  std::optional<Worker> second_;
};

}  // namespace godwit::engine
