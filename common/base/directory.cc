#include "common/base/directory.h"

#include "common/base/fd.h"

#include <memory>

#include <dirent.h>

namespace godwit {

std::vector<std::string> names_in(int dir) {
  UniqueFd fd = open_at(dir, ".", O_RDONLY | O_DIRECTORY);
  const std::unique_ptr<DIR, int (*)(DIR*)> list(::fdopendir(fd.get()), ::closedir);
  if (!list) throw syscall_error(errno, "list a directory");
  fd.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(list.get());
    if (entry == nullptr && errno != 0) throw syscall_error(errno, "list a directory");
    if (entry == nullptr) return names;
    names.emplace_back(entry->d_name);
  }
}

}  // namespace godwit
