#include "agent/engine/resources/memfd.h"

#include "agent/engine/resources/fown.h"

#include <linux/magic.h>
#include <sys/vfs.h>

namespace godwit::engine::resources::memfd {
namespace {

image::MemfdInodeEntry find_object(const image::ImageSet& images, std::uint32_t inode_id) {
  for (auto& object : images.records<image::MemfdInodeEntry>(image::Kind::memfd)) {
    if (object.inode_id() == inode_id) return std::move(object);
  }
  fail(Errc::image_corrupt, "memfd.img has no object {}", inode_id);
}

}  // namespace

bool matches(const FdView& view) { return S_ISREG(view.st.st_mode) && view.link.starts_with("/memfd:"); }

std::optional<Refusal> refusal(const FdView& view, SurveyContext&) {
  struct statfs fs{};
  check(::fstatfs(view.fd, &fs), "stat the file system of {}", view.describe());
  if (fs.f_type == HUGETLBFS_MAGIC) {
    return Refusal{view.describe(), "a memfd in huge pages cannot be carried yet", "run the task without MFD_HUGETLB"};
  }
  return std::nullopt;
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  image::MemfdFileEntry& file = *entry.mutable_memfd();
  file.set_id(entry.id());
  file.set_flags(view.flags());
  file.set_pos(static_cast<std::uint64_t>(view.info.pos));
  *file.mutable_fown() = dump_fown(view.fd);
  file.set_inode_id(context.ids.memfd_object(view.fd, view.st));
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context) {
  const image::MemfdFileEntry& file = entry.memfd();
  const image::MemfdInodeEntry object = find_object(context.images, file.inode_id());
  const auto segment = context.segments.find(object.shmid());
  if (segment == context.segments.end())
    fail(Errc::image_corrupt, "no content for memfd {} (shmid {})", object.name(), object.shmid());
  const int flags = static_cast<int>(file.flags()) & ~(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC);
  UniqueFd fd = open_file(fmt::format("/proc/self/fd/{}", segment->second), flags);
  if (file.pos() != 0)
    check(::lseek(fd.get(), static_cast<off_t>(file.pos()), SEEK_SET), "seek in memfd {}", object.name());
  return fd;
}

void link(const image::FileEntry&, int, RestoreContext&) {}

std::vector<Object> restore_objects(const RestoreContext& context, int floor) {
  std::vector<Object> objects;
  for (auto& entry : context.images.records<image::MemfdInodeEntry>(image::Kind::memfd)) {
    const auto segment = context.segments.find(entry.shmid());
    if (segment == context.segments.end()) continue;
    const int fd = segment->second;
    check(::ftruncate(fd, static_cast<off_t>(entry.size())), "set the size of memfd {}", entry.name());
    check(::fchown(fd, entry.uid(), entry.gid()), "set the owner of memfd {}", entry.name());
    if (entry.has_mode()) check(::fchmod(fd, entry.mode()), "set the mode of memfd {}", entry.name());
    UniqueFd own(check(::fcntl(fd, F_DUPFD_CLOEXEC, floor), "move memfd {} above {}", entry.name(), floor));
    objects.push_back({entry.name(), static_cast<int>(entry.seals()), std::move(own)});
  }
  return objects;
}

void seal(const std::vector<Object>& objects) {
  for (const Object& object : objects) {
    // Sealing twice adds nothing, but a file with F_SEAL_SEAL refuses even that.
    const int present = ::fcntl(object.fd.get(), F_GET_SEALS);
    const int missing = object.seals & ~present;
    if (present >= 0 && missing != 0)
      check(::fcntl(object.fd.get(), F_ADD_SEALS, missing), "seal memfd {}", object.name);
  }
}

}  // namespace godwit::engine::resources::memfd
