// Pseudo terminals made anew, in the helper of a restore. A terminal comes before the processes that it controls, its
// state after all its open files.
#pragma once

#include "common/base/fd.h"
#include "common/image/files.pb.h"
#include "common/image/image_set.h"

#include <cstdint>
#include <map>

namespace godwit::engine::resources {

struct RestoreContext;

class Terminals {
 public:
  // Makes /dev/pts/INDEX, unless it has. Errc::already_exists when somebody else has that one.
  void make(unsigned index);
  int master(unsigned index);
  // What was open of /dev/pts/INDEX, whose master the tree does not have, becomes open files of this terminal.
  void replace(unsigned index, UniqueFd fd);
  UniqueFd open(unsigned index, int flags);  // an open file of the slave
  // What was opened as /dev/tty, by a process that this is the terminal of: file `id` of files.img.
  void adopt(std::uint32_t id, UniqueFd fd) { adopted_[id] = std::move(fd); }
  UniqueFd take_adopted(std::uint32_t id);
  // Settings, sizes, what is queued.
  void finish(const image::ImageSet& images);
  void release();  // the descriptors are closed by somebody else

 private:
  std::map<unsigned, UniqueFd> masters_;
  std::map<unsigned, UniqueFd> spare_;  // masters that nobody has asked for yet
  std::map<unsigned, UniqueFd> replaced_;
  std::map<std::uint32_t, UniqueFd> adopted_;
};

namespace terminal {

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace terminal
}  // namespace godwit::engine::resources
