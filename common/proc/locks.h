// /proc/locks: what holds a file, on the whole machine. Errors: Errc::internal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::proc {

struct Lock {
  std::string kind;  // "POSIX", "FLOCK", "OFDLCK", "LEASE"
  std::string type;  // "READ", "WRITE"
  pid_t pid = 0;     // -1: of an open file description
  std::string file;  // as locked_file() says it
};

// Those that are held; who waits for one is left out.
std::vector<Lock> parse_locks(std::string_view text);

std::string locked_file(dev_t dev, ino_t inode);  // "fe:00:1234"

}  // namespace godwit::proc
