// Files that the destination must have: what the source needs, and whether it is there.
//
// A file is the same when it exists with the same size and type, and, being ELF with a build-id, with the same
// build-id. Permissions count, ownership does not. Reads only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sys/stat.h>

namespace godwit::engine::resources {

struct NeededFile {
  std::string path;
  std::uint64_t size = 0;
  std::uint32_t mode = 0;  // st_mode
  std::string build_id;    // bytes; empty when there is none
  bool writable = false;   // open for writing, or mapped shared and writable: must be on shared storage
  bool mapped = false;
  std::uint64_t device = 0;  // dev_t and inode at the source, to merge repeats
  std::uint64_t inode = 0;
};

// Describes the file behind `fd` (O_PATH will do when no build-id is asked for).
enum class BuildId { skip = 1, read };
NeededFile describe_file(int fd, std::string path, BuildId build_id);

// The NT_GNU_BUILD_ID of a 64-bit ELF file; empty when it has none or is something else. Never fails.
std::string elf_build_id(int fd);

// All differences at once, one sentence each: "/usr/bin/x: 20480 bytes here, 20992 at the source". Sizes of writable
// files and of directories and devices are not compared: they change, or mean nothing.
std::vector<std::string> check_files(const std::vector<NeededFile>& files);

}  // namespace godwit::engine::resources
