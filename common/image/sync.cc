#include "common/image/sync.h"

#include "common/base/directory.h"
#include "common/base/storage.h"
#include "common/image/magic.h"
#include "common/image/page_levels.h"

namespace godwit::image {
namespace {

void sync_set(int dirfd) {
  const std::string path = read_link(fmt::format("/proc/self/fd/{}", dirfd));
  for (const std::string& name : names_in(dirfd)) {
    if (!parse_file_name(name)) continue;
    const UniqueFd file = open_beneath(dirfd, name, O_RDONLY | O_NONBLOCK);
    sync_file(file.get(), fmt::format("{}/{}", path, name));
  }
  sync_directory_and_its_name(dirfd, path);
}

}  // namespace

void sync_with_parents(int dirfd) {
  sync_set(dirfd);
  for (const UniqueFd& parent : open_parents(dirfd)) sync_set(parent.get());
}

}  // namespace godwit::image
