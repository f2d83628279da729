#include "common/proc/locks.h"

#include "common/proc/text.h"

#include <fmt/format.h>

#include <sys/sysmacros.h>

namespace godwit::proc {

std::vector<Lock> parse_locks(std::string_view text) {
  std::vector<Lock> locks;
  while (const auto line = next_line(text)) {
    Scanner scan("locks", *line);
    scan.until(':');
    if (scan.accept("->")) continue;
    Lock& lock = locks.emplace_back();
    lock.kind = scan.word();
    scan.word();  // whether it is advisory; of a lease, whether it is being broken
    lock.type = scan.word();
    lock.pid = scan.dec<pid_t>();
    lock.file = scan.word();
  }
  return locks;
}

std::string locked_file(dev_t dev, ino_t inode) {
  return fmt::format("{:02x}:{:02x}:{}", ::major(dev), ::minor(dev), inode);
}

}  // namespace godwit::proc
