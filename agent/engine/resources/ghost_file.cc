#include "agent/engine/resources/ghost_file.h"

#include "agent/engine/resources/path_file.h"
#include "common/image/remap.pb.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <sys/syscall.h>

namespace godwit::engine::resources::ghost_file {
namespace {

std::string original_name(const std::string& link) {
  constexpr std::string_view suffix = " (deleted)";
  return link.ends_with(suffix) ? link.substr(0, link.size() - suffix.size()) : link;
}

// Data between holes, from the start of the file to its end.
std::vector<std::pair<std::uint64_t, std::uint64_t>> extents(int fd, std::uint64_t size) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> found;
  for (off_t at = 0; static_cast<std::uint64_t>(at) < size;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0) break;  // ENXIO: only a hole is left
    const off_t end = check(::lseek(fd, data, SEEK_HOLE), "find the end of data in a deleted file");
    found.emplace_back(data, end - data);
    at = end;
  }
  return found;
}

// The ghost's own open file: a descriptor's position must not be moved.
UniqueFd reopen(const FdView& view) { return open_file(fmt::format("/proc/self/fd/{}", view.fd), O_RDONLY); }

void dump_content(const FdView& view, std::uint32_t ghost, image::ImageSet& out) {
  image::GhostFileEntry entry;
  entry.set_uid(view.st.st_uid);
  entry.set_gid(view.st.st_gid);
  entry.set_mode(view.st.st_mode);
  entry.set_dev(static_cast<std::uint32_t>(view.st.st_dev));
  entry.set_ino(view.st.st_ino);
  entry.set_chunks(true);
  entry.set_size(static_cast<std::uint64_t>(view.st.st_size));
  out.put(image::Kind::ghost_file, ghost, entry);
  const UniqueFd file = reopen(view);
  for (const auto& [offset, length] : extents(file.get(), entry.size())) {
    std::string bytes(length, '\0');
    pread_exact(file.get(), std::as_writable_bytes(std::span(bytes)), static_cast<off_t>(offset));
    image::GhostChunkEntry chunk;
    chunk.set_len(length);
    chunk.set_off(offset);
    out.append(image::Kind::ghost_file, ghost, chunk, bytes);
  }
}

void restore_content(int fd, std::uint32_t ghost, const image::ImageSet& images) {
  image::RecordReader reader = images.open(image::Kind::ghost_file, ghost);
  image::GhostFileEntry entry;
  if (!reader.next(entry)) reader.corrupt("no description of the file");
  check(::fchown(fd, entry.uid(), entry.gid()), "set the owner of a deleted file");
  check(::fchmod(fd, entry.mode() & 07777), "set the mode of a deleted file");
  if (!entry.chunks()) {
    write_all(fd, reader.rest());
    return;
  }
  check(::ftruncate(fd, static_cast<off_t>(entry.size())), "set the size of a deleted file");
  for (image::GhostChunkEntry chunk; reader.next(chunk);) {
    const std::string_view bytes = reader.payload(chunk.len());
    pwrite_all(fd, std::as_bytes(std::span(bytes)), static_cast<off_t>(chunk.off()));
  }
}

}  // namespace

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  const std::string name = original_name(view.link);
  if (!name.starts_with('/')) {
    return Refusal{view.describe(), "its path cannot be reached from here", "move the task's mount namespace with it"};
  }
  // It is made again in the directory that it was in, so that one must be there, on the same file system.
  const std::string directory = std::filesystem::path(name).parent_path();
  struct stat parent{};
  if (::stat(path_file::reach(view.pid, directory).c_str(), &parent) != 0 || parent.st_dev != view.st.st_dev) {
    return Refusal{view.describe(), "the file is deleted, and so is its directory", "let the task close it"};
  }
  const auto on_disk = static_cast<std::uint64_t>(view.st.st_blocks) * 512;
  if (std::min<std::uint64_t>(on_disk, static_cast<std::uint64_t>(view.st.st_size)) > context.options.ghost_limit) {
    return Refusal{view.describe(),
                   fmt::format("the file is deleted and holds {} bytes, more than the limit of {}", on_disk,
                               context.options.ghost_limit),
                   "raise the limit for deleted files, or let the task close it"};
  }
  return std::nullopt;
}

void dump(const FdView& view, image::RegFileEntry& entry, DumpContext& context) {
  entry.set_name(original_name(view.link));
  // Ghosts are numbered by the first open file that needs them.
  const std::uint32_t ghost = context.ids.shmid_for(view.st.st_dev, view.st.st_ino);
  if (context.ids.first_sight(view.st.st_dev, view.st.st_ino)) dump_content(view, ghost, context.out);
  image::RemapFilePathEntry remap;
  remap.set_orig_id(entry.id());
  remap.set_remap_id(ghost);
  remap.set_remap_type(image::REMAP_GHOST);
  context.out.append(image::Kind::remap_fpath, 0, remap);
}

std::optional<UniqueFd> restore(const image::RegFileEntry& entry, RestoreContext& context) {
  for (const auto& remap : context.images.records<image::RemapFilePathEntry>(image::Kind::remap_fpath)) {
    if (remap.orig_id() != entry.id() || remap.remap_type() != image::REMAP_GHOST) continue;
    UniqueFd& ghost = context.ghosts[remap.remap_id()];
    if (!ghost) {
      // In the directory that it was in, so that it lies on the same file system; no name is ever visible.
      const std::string directory = std::filesystem::path(entry.name()).parent_path();
      ghost = open_file(directory, O_TMPFILE | O_RDWR, 0600);
      restore_content(ghost.get(), remap.remap_id(), context.images);
    }
    constexpr std::uint32_t nameless = O_TMPFILE | O_RDWR;
    if ((entry.flags() & (O_TMPFILE | O_ACCMODE)) == nameless) {
      // Born without a name like the ghost itself, which F_GETFL shows; only its first open file was.
      check(::lseek(ghost.get(), static_cast<off_t>(entry.pos()), SEEK_SET), "seek in {}", entry.name());
      return UniqueFd(check(::fcntl(ghost.get(), F_DUPFD_CLOEXEC, 0), "copy a descriptor"));
    }
    return path_file::open(entry, fmt::format("/proc/self/fd/{}", ghost.get()));
  }
  return std::nullopt;
}

}  // namespace godwit::engine::resources::ghost_file
