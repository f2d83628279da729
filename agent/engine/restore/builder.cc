#include "agent/engine/restore/builder.h"

#include "agent/engine/memory/task_memory.h"
#include "common/base/check.h"
#include "common/image/page_reader.h"
#include "common/image/pstree.pb.h"

#include <algorithm>

#include <sys/mman.h>

namespace godwit::engine {
namespace {

constexpr std::size_t max_state = std::size_t{512} << 20;  // of all state images together

// What file ids of a layout stand for.
class LayoutFiles {
 public:
  explicit LayoutFiles(const image::ImageSet& images) {
    for (const image::FileEntry& e : images.records<image::FileEntry>(image::Kind::files)) {
      if (e.has_reg()) files_[e.id()] = {.path = e.reg().name(), .flags = static_cast<int>(e.reg().flags())};
      if (e.has_memfd()) files_[e.id()] = {.path = {}, .flags = static_cast<int>(e.memfd().flags()), .memfd = e.memfd().inode_id()};
    }
  }
  MappedFile operator()(std::uint64_t id) const {
    const auto at = files_.find(id);
    if (at == files_.end()) fail(Errc::image_corrupt, "files.img has no file {} for a mapping", id);
    return at->second;
  }

 private:
  std::map<std::uint64_t, MappedFile> files_;
};

}  // namespace

AddressSpace& Builder::memory_of(pagewire::ObjectId object) {
  if (!memory_) fail(Errc::protocol, "pages came before a layout");
  if (pagewire::object_type(object) == pagewire::ObjectType::task &&
      pagewire::object_number(object) != static_cast<std::uint64_t>(guest_pid_))
    fail(Errc::protocol, "pages of task {}, where task {} is restored", pagewire::object_number(object), guest_pid_);
  return *memory_;
}

void Builder::pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs, std::span<const std::byte> data) {
  AddressSpace& memory = memory_of(object);
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: memory.fill(runs, data); break;
    case pagewire::ObjectType::shmem: memory.fill_segment(pagewire::object_number(object), runs, data); break;
  }
}

void Builder::zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  AddressSpace& memory = memory_of(object);
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: memory.zero(runs); break;
    case pagewire::ObjectType::shmem: memory.clear_segment(pagewire::object_number(object), runs); break;
  }
}

void Builder::drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  AddressSpace& memory = memory_of(object);
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: memory.drop(runs); break;
    case pagewire::ObjectType::shmem: memory.clear_segment(pagewire::object_number(object), runs); break;
  }
}

void Builder::file(std::string_view name, std::uint64_t offset, std::span<const std::byte> part, bool last) {
  if (offset != partial_.size()) fail(Errc::protocol, "{}: a part at offset {} where {} is next", name, offset, partial_.size());
  if (state_.size_in_bytes() + partial_.size() + part.size() > max_state)
    fail(Errc::protocol, "more than {} bytes of state images", max_state);
  partial_.append(reinterpret_cast<const char*>(part.data()), part.size());
  if (!last) return;
  std::string content = std::exchange(partial_, {});
  if (!name.starts_with(layout_prefix)) {
    state_.put_file(std::string(name), std::move(content));
    return;
  }
  name.remove_prefix(layout_prefix.size());
  if (!name.starts_with("mm-")) {
    layout_files_.put_file(std::string(name), std::move(content));
    return;
  }
  image::MmEntry mm;
  if (!mm.ParseFromString(content)) fail(Errc::image_corrupt, "the layout cannot be read");
  layout(static_cast<pid_t>(std::strtol(name.data() + 3, nullptr, 10)), mm, layout_files_);
}

void Builder::layout(pid_t guest_pid, const image::MmEntry& mm, const image::ImageSet& files) {
  if (skeleton_ && skeleton_->exec_since(mm)) {
    memory_.reset();
    skeleton_.reset();
  }
  if (!skeleton_) {
    guest_pid_ = guest_pid;
    skeleton_ = std::make_unique<Skeleton>(SkeletonPlan{
        .guest_pid = guest_pid, .init_pidfd = plan_.init_pidfd, .cgroup_fd = plan_.cgroup_fd, .layout = mm});
    memory_ = std::make_unique<AddressSpace>(skeleton_->remote(), skeleton_->scratch(), skeleton_->pidfd());
  }
  if (skeleton_->make_way(mm)) memory_->move_scratch(skeleton_->scratch());
  for (const image::MemfdInodeEntry& e : files.records<image::MemfdInodeEntry>(image::Kind::memfd))
    memory_->declare(e.inode_id(), {.memfd_name = e.name(), .size = e.size(), .create_flags = MFD_ALLOW_SEALING});
  Vmas vmas(mm.vmas().begin(), mm.vmas().end());
  std::ranges::sort(vmas, {}, [](const image::VmaEntry& e) { return e.start(); });
  memory_->apply(vmas, LayoutFiles(files));
}

void Builder::load(int images_directory) {
  state_ = image::ImageSet::load(images_directory);
  const auto tree = state_.records<image::PstreeEntry>(image::Kind::pstree);
  if (tree.size() != 1) fail(Errc::unsupported, "the images hold {} tasks; one can be restored", tree.size());
  const pid_t pid = static_cast<pid_t>(tree[0].pid());
  layout(pid, state_.get<image::MmEntry>(image::Kind::mm, static_cast<std::uint64_t>(pid)), state_);
  const auto fill = [&](image::Kind kind, std::uint64_t id, pagewire::ObjectType type) {
    std::vector<std::byte> buffer(pagewire::max_payload);
    image::PageReader reader(images_directory, kind, id);
    while (auto run = reader.next())
      for (std::uint64_t done = 0; done < run->pages;) {
        const std::uint64_t n = std::min<std::uint64_t>(run->pages - done, buffer.size() / page_size);
        const std::span<std::byte> data(buffer.data(), n * page_size);
        pread_exact(run->fd, data, static_cast<off_t>(run->offset + done * page_size));
        const pagewire::Run piece{run->vaddr + done * page_size, n};
        pages(pagewire::object_id(type, id), {&piece, 1}, data);
        done += n;
      }
  };
  fill(image::Kind::pagemap, static_cast<std::uint64_t>(pid), pagewire::ObjectType::task);
  for (const std::uint64_t shmid : state_.ids(image::Kind::pagemap_shmem))
    fill(image::Kind::pagemap_shmem, shmid, pagewire::ObjectType::shmem);
}

}  // namespace godwit::engine
