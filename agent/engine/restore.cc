#include "agent/engine/restore.h"

#include "agent/engine/memory/page_window.h"
#include "agent/engine/memory/task_memory.h"
#include "agent/engine/ptrace/tracing.h"
#include "agent/engine/restore/foreign_state.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/image/files.pb.h"
#include "common/image/page_reader.h"
#include "common/image/pstree.pb.h"
#include "common/image/unfinished.h"
#include "common/proc/reader.h"

#include <csignal>

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

constexpr std::size_t largest_image = 256u << 20;
constexpr std::uint64_t window_pages = (4u << 20) / page_size;  // of a pages file, mapped at once

pid_t root_of(const image::ImageSet& images) {
  const auto tree = images.records<image::PstreeEntry>(image::Kind::pstree);
  if (tree.empty()) fail(Errc::image_corrupt, "pstree.img is missing or empty");
  if (tree.size() != 1)
    fail(Errc::unsupported, "a tree of {} processes; only single processes are restored", tree.size());
  const pid_t pid = static_cast<pid_t>(tree[0].pid());
  if (pid <= 0) fail(Errc::image_corrupt, "pstree.img names PID {}", pid);
  return pid;
}

}  // namespace

Restore::Restore(Surroundings surroundings) : surroundings_(std::move(surroundings)) {
  if (!surroundings_.cgroup.empty()) cgroup_directory_ = open_file(surroundings_.cgroup, O_RDONLY | O_DIRECTORY);
}

Skeleton& Restore::skeleton() {
  if (!skeleton_) fail(Errc::image_corrupt, "memory comes before the layout that it belongs to");
  return *skeleton_;
}

void Restore::pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs, std::span<const std::byte> data) {
  AddressSpace& memory = skeleton().memory();
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: return memory.fill(runs, data);
    case pagewire::ObjectType::shmem: return memory.fill_segment(pagewire::object_number(object), runs, data);
  }
  fail(Errc::protocol, "pages of an unknown kind of object ({:#x})", object);
}

void Restore::zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  AddressSpace& memory = skeleton().memory();
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: return memory.zero(runs);
    case pagewire::ObjectType::shmem: return memory.clear_segment(pagewire::object_number(object), runs);
  }
  fail(Errc::protocol, "zero pages of an unknown kind of object ({:#x})", object);
}

void Restore::drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  AddressSpace& memory = skeleton().memory();
  switch (pagewire::object_type(object)) {
    case pagewire::ObjectType::task: return memory.drop(runs);
    case pagewire::ObjectType::shmem: return memory.clear_segment(pagewire::object_number(object), runs);
  }
  fail(Errc::protocol, "dropped pages of an unknown kind of object ({:#x})", object);
}

void Restore::file(std::string_view name, std::uint64_t offset, std::span<const std::byte> part, bool last) {
  std::string& content = partial_[std::string(name)];
  if (offset == 0) content.clear();  // a freeze that was given up half-way may have left the beginning of one
  if (offset != content.size()) fail(Errc::protocol, "{}: a part at {} follows {} bytes", name, offset, content.size());
  if (content.size() + part.size() > largest_image)
    fail(Errc::protocol, "{} is larger than {} bytes", name, largest_image);
  content.append(reinterpret_cast<const char*>(part.data()), part.size());
  if (!last) return;
  std::string whole = std::move(content);
  partial_.erase(partial_.find(name));
  if (name.starts_with(layout_prefix))
    layout_file(std::string(name.substr(layout_prefix.size())), std::move(whole));
  else
    images_.put_file(std::string(name), std::move(whole));
}

void Restore::layout_file(const std::string& name, std::string content) {
  if (name.starts_with("mm-")) {
    guest_pid_ = static_cast<pid_t>(std::strtol(name.c_str() + 3, nullptr, 10));
    image::MmEntry mm;
    if (!mm.ParseFromString(content)) fail(Errc::image_corrupt, "a layout that is no layout");
    apply_layout(Vmas(mm.vmas().begin(), mm.vmas().end()), layout_files_);
    layout_files_ = {};
  } else if (name == "reset") {  // another program runs there now
    if (skeleton_) skeleton_->memory().apply({}, [](std::uint64_t) { return MappedFile{}; });
  } else {
    layout_files_.put_file(name, std::move(content));
  }
}

void Restore::apply_layout(const Vmas& vmas, const image::ImageSet& files) {
  Doing doing("applying a layout of {} mappings", vmas.size());
  if (guest_pid_ <= 0) fail(Errc::protocol, "a layout of PID {}", guest_pid_);
  std::map<std::uint64_t, MappedFile> mapped;
  std::map<std::uint64_t, image::MemfdInodeEntry> memfds;
  for (const auto& m : files.records<image::MemfdInodeEntry>(image::Kind::memfd)) memfds[m.inode_id()] = m;
  for (const auto& f : files.records<image::FileEntry>(image::Kind::files)) {
    if (f.has_memfd())
      mapped[f.id()] = {
          .path = {}, .flags = static_cast<int>(f.memfd().flags()), .memfd = memfds[f.memfd().inode_id()].shmid()};
    else if (f.has_reg())
      mapped[f.id()] = {.path = f.reg().name(), .flags = static_cast<int>(f.reg().flags()), .memfd = 0};
  }
  if (skeleton_) {
    skeleton_->make_room_for(vmas);
  } else {
    skeleton_ = std::make_unique<Skeleton>(SpawnRequest{.pid = guest_pid_,
                                                        .scratch = 0,
                                                        .init = surroundings_.init ? surroundings_.init.get() : -1,
                                                        .cgroup = cgroup_directory_ ? cgroup_directory_.get() : -1,
                                                        .sibling = surroundings_.sibling},
                                           vmas);
  }
  for (const auto& [id, m] : memfds)
    skeleton_->memory().declare(m.shmid(), {.memfd = true,
                                            .memfd_name = m.name(),
                                            .size = m.size(),
                                            .create_flags = MFD_ALLOW_SEALING | m.hugetlb_flag()});
  skeleton_->memory().apply(vmas, [&](std::uint64_t id) {
    const auto it = mapped.find(id);
    if (it == mapped.end()) fail(Errc::image_corrupt, "a mapping of file {}, which is not described", id);
    return it->second;
  });
}

const image::ImageSet& Restore::load(int directory) {
  image::Unfinished::refuse(directory);
  images_ = image::ImageSet::load(directory);
  return images_;
}

std::uint64_t Restore::absorb_directory(int directory, image::PagesAccess access) {
  std::uint64_t total = 0;
  guest_pid_ = root_of(images_);
  for (const std::string& notice : refuse_foreign_state(images_, guest_pid_))
    log::warn("restore.notice", {{"what", notice}});
  const auto mm = images_.get<image::MmEntry>(image::Kind::mm, static_cast<std::uint64_t>(guest_pid_));
  apply_layout(Vmas(mm.vmas().begin(), mm.vmas().end()), images_);
  const auto absorb = [&](image::Kind kind, std::uint64_t id, pagewire::ObjectId object) {
    image::PageReader reader(directory, kind, id, access);
    while (const auto source = reader.next())
      for (std::uint64_t done = 0; done < source->pages;) {
        const std::uint64_t n = std::min(source->pages - done, window_pages);
        const PageWindow window(source->fd, source->offset + static_cast<off_t>(done * page_size), n * page_size);
        const pagewire::Run run{source->vaddr + done * page_size, n};
        pages(object, std::span(&run, 1), window.bytes());
        if (access == image::PagesAccess::punch)
          check(::fallocate(source->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            source->offset + static_cast<off_t>(done * page_size),
                            static_cast<off_t>(window.bytes().size())),
                "free pages that have been read");
        done += n;
        total += n;
      }
  };
  absorb(image::Kind::pagemap, static_cast<std::uint64_t>(guest_pid_),
         pagewire::object_id(pagewire::ObjectType::task, static_cast<std::uint64_t>(guest_pid_)));
  for (const std::uint64_t shmid : images_.ids(image::Kind::pagemap_shmem))
    absorb(image::Kind::pagemap_shmem, shmid, pagewire::object_id(pagewire::ObjectType::shmem, shmid));
  return total;
}

void Restore::let_go(const RestoredTask& task) {
  if (task.stopped || leave_stopped_) check(::kill(skeleton().pid(), SIGSTOP), "stop process {}", skeleton().pid());
  std::optional<Cgroup> cgroup;
  if (!surroundings_.cgroup.empty()) cgroup.emplace(surroundings_.cgroup);
  if (cgroup) cgroup->freeze();
  fault::point("engine.restore.held");
  detach_threads(task.threads);
  skeleton().helper().dismiss();
  if (cgroup) cgroup->wait_frozen(skeleton().pid(), task.threads);
}

Prepared Restore::finish(const std::function<void(pid_t)>& before_it_runs) {
  Steps steps;
  skeleton();
  fault::point("engine.restore.filled");
  const RestoredTask task = restore_task(*skeleton_, images_, guest_pid_, steps);
  for (const std::string& notice : task.notices) log::warn("restore.notice", {{"what", notice}});
  if (before_it_runs) before_it_runs(skeleton_->pid());
  let_go(task);
  steps.lap("hold");
  Prepared prepared;
  Task& t = *prepared.add_tasks();
  t.set_pid(skeleton_->pid());
  t.set_guest_pid(guest_pid_);
  const proc::Reader proc(skeleton_->pid());
  t.set_comm(proc.comm());
  t.set_start_time(proc.stat().start_time);
  t.set_uid(proc.status().uid.effective);
  for (const image::PstreeEntry& p : images_.records<image::PstreeEntry>(image::Kind::pstree))
    for (const std::uint32_t tid : p.threads()) t.add_threads(static_cast<std::int32_t>(tid));
  *prepared.mutable_steps() = steps.list();
  return prepared;
}

}  // namespace godwit::engine
