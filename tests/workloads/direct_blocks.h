#pragma once
// A file whose blocks each have a content of their own, to be read with O_DIRECT into buffers of the same size.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <fcntl.h>
#include <span>
#include <unistd.h>

namespace godwit::workloads {

constexpr std::size_t direct_block = 64 << 10;
constexpr std::size_t direct_blocks = 32;  // of the file

// On the disk when it returns. Skips the workload where the file system has no O_DIRECT.
inline int open_direct_blocks(Workload& w) {
  const std::string name = w.path("blocks");
  {
    std::string content(direct_blocks * direct_block, 0);
    fill(content.data(), content.size(), 0);
    write_file(name, content);
  }
  const int file = open(name.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (file < 0 && errno == EINVAL) w.skip("this file system has no O_DIRECT");
  if (file < 0) give_up("open");
  must(fdatasync(file), "fdatasync");
  return file;
}

// `content`: which block was read into each of the buffers that begin at `memory`; direct_blocks: none.
inline void check_direct_blocks(Workload& w, const char* memory, std::span<const std::size_t> content) {
  for (std::size_t i = 0; i < content.size(); ++i)
    w.check(content[i] == direct_blocks || holds(memory + i * direct_block, direct_block, content[i] * direct_block),
            "buffer %zu is not what was read from block %zu", i, content[i]);
}

}  // namespace godwit::workloads
