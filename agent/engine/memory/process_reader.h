// Reads pages of a process.
//
// By process_vm_readv, all runs in a call: nothing is faster. But it pins what it reads (since 5.19), and for that the
// kernel first gives the process a copy of a page that it shares with another since a fork: read so, a tree of forks
// would take at the source as much memory as each of its processes alone. /proc/PID/mem pins nothing and leaves such a
// page as it is, at half the speed.
#pragma once

#include "agent/engine/memory/page_emitter.h"

#include <cstdint>
#include <span>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

class ProcessReader : public PageReader {
 public:
  ProcessReader(pid_t pid, int mem_fd) : pid_(pid), mem_(mem_fd) {}
  // From now on pages are looked up in `pagemap_fd` (borrowed: /proc/PID/pagemap), since another process may have some
  // of them; -1: none has, which saves a twentieth.
  void spare_shared(int pagemap_fd) { pagemap_ = pagemap_fd; }

  void read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) override;

 private:
  bool read_all(std::span<const pagewire::Run> runs, std::span<std::byte> into);
  void read_one_by_one(std::vector<pagewire::Run>& runs, std::span<std::byte> into) const;
  void require_process(std::uint64_t address) const;
  void look_up(std::span<const pagewire::Run> runs);

  pid_t pid_;
  int mem_;  // borrowed: /proc/PID/mem
  int pagemap_ = -1;
  std::vector<std::uint64_t> entries_;  // reused, as the next one
  std::vector<bool> exclusive_;         // of the pages of all runs, in order
};

}  // namespace godwit::engine
