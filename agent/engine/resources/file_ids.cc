#include "agent/engine/resources/file_ids.h"

#include "agent/engine/resources/needed_files.h"

#include <algorithm>

#include <linux/kcmp.h>
#include <sys/syscall.h>

namespace godwit::engine::resources {
namespace {

// The order of two open files; kcmp's is arbitrary but total and stable while both are open.
int compare(pid_t pid_a, int a, pid_t pid_b, int b) {
  const long result = check(::syscall(SYS_kcmp, pid_a, pid_b, KCMP_FILE, a, b),
                            "compare fd {} of task {} with fd {} of task {}", a, pid_a, b, pid_b);
  if (result == 0) return 0;
  return result == 1 ? -1 : 1;
}

image::RegFileEntry path_entry(std::uint32_t id, const std::string& path, const struct stat& st, int flags) {
  image::RegFileEntry reg;
  reg.set_id(id);
  reg.set_flags(static_cast<std::uint32_t>(flags));
  reg.set_pos(0);
  image::FownEntry* fown = reg.mutable_fown();
  for (auto set : {&image::FownEntry::set_uid, &image::FownEntry::set_euid, &image::FownEntry::set_signum,
                   &image::FownEntry::set_pid_type, &image::FownEntry::set_pid}) {
    (fown->*set)(0);
  }
  reg.set_name(path);
  if (S_ISREG(st.st_mode)) reg.set_size(static_cast<std::uint64_t>(st.st_size));
  reg.set_mode(st.st_mode);
  return reg;
}

// CRIU keeps it as 32-bit words in memory order.
void put_build_id(std::string_view id, image::RegFileEntry& reg) {
  for (std::size_t i = 0; i < id.size(); i += 4) {
    std::uint32_t word = 0;
    id.copy(reinterpret_cast<char*>(&word), 4, i);
    reg.add_build_id(word);
  }
}

}  // namespace

void FileIds::begin_freeze() {
  descriptors_.clear();
  descriptor_entries_.clear();
  seen_.clear();
  deleted_.clear();
  used_files_.clear();
  used_objects_.clear();
  told_.clear();
}

// With the descriptor that reads a memfd, which keeps it alive.
void FileIds::forget_segments() {
  std::erase_if(segments_, [&](const Segment& s) { return !used_objects_.contains(s.shmid); });
  std::erase_if(memfds_, [&](const auto& m) { return !used_objects_.contains(m.first); });
  std::erase_if(mapping_entries_, [&](const auto& e) {
    return e.second.has_memfd() && !used_objects_.contains(e.second.memfd().inode_id());
  });
  std::erase_if(mappings_, [&](const auto& m) { return !mapping_entries_.contains(m.second); });
}

void FileIds::forget_files() {
  std::erase_if(mappings_, [&](const auto& m) { return !used_files_.contains(m.second); });
  std::erase_if(contents_, [&](const auto& c) { return !used_files_.contains(c.first); });
  std::erase_if(mapping_entries_, [&](const auto& e) { return !used_files_.contains(e.first); });
}

FileIds::Slot FileIds::for_descriptor(pid_t pid, int number, const std::string& link) {
  std::vector<Representative>& known = descriptors_[link];
  std::size_t low = 0;
  for (std::size_t high = known.size(); low < high;) {
    const std::size_t middle = (low + high) / 2;
    const int order = compare(pid, number, known[middle].pid, known[middle].number);
    if (order == 0) return {known[middle].id, false};
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  const Representative fresh{fresh_id(), pid, number};
  known.insert(known.begin() + static_cast<std::ptrdiff_t>(low), fresh);
  return {fresh.id, true};
}

void FileIds::add(image::FileEntry entry) {
  const std::uint32_t id = entry.id();
  descriptor_entries_.insert_or_assign(id, std::move(entry));
}

std::uint32_t FileIds::file_for_mapping(const std::string& path, const struct stat& st, int flags,
                                        const OpenFile& mapped) {
  const std::tuple file(st.st_dev, st.st_ino, path, flags);
  const auto found = mappings_.find(file);
  const Content content{st.st_size, st.st_ctim.tv_sec, st.st_ctim.tv_nsec};
  const auto known = found != mappings_.end() ? contents_.find(found->second) : contents_.end();
  std::optional<std::string> build_id;
  // First of all, since it fails where the file has gone: a record that has no content is none.
  if (mapped && (known == contents_.end() || known->second != content)) build_id = elf_build_id(mapped().get());
  const std::uint32_t id = found != mappings_.end() ? found->second : fresh_id();
  mappings_.emplace(file, id);
  used_files_.insert(id);
  image::FileEntry& entry = mapping_entries_[id];
  entry.set_type(image::FD_REG);
  entry.set_id(id);
  image::RegFileEntry reg = path_entry(id, path, st, flags);
  if (build_id) {
    put_build_id(*build_id, reg);
    contents_[id] = content;
  } else {
    *reg.mutable_build_id() = entry.reg().build_id();
  }
  *entry.mutable_reg() = std::move(reg);
  return id;
}

std::optional<std::uint32_t> FileIds::told_in_freeze(const MappedFile& file) const {
  const auto known = told_.find(file);
  return known == told_.end() ? std::nullopt : std::optional(known->second);
}

std::uint32_t FileIds::memfd_for_mapping(int fd, const struct stat& st, int flags) {
  const std::uint32_t object = memfd_object(fd, st);
  const auto [found, fresh] = mappings_.try_emplace({st.st_dev, st.st_ino, std::string(), flags}, last_file_ + 1);
  const std::uint32_t id = fresh ? fresh_id() : found->second;
  used_files_.insert(id);
  if (!fresh) return id;
  image::FileEntry& entry = mapping_entries_[id];
  entry.set_type(image::FD_MEMFD);
  entry.set_id(id);
  image::MemfdFileEntry& memfd = *entry.mutable_memfd();
  memfd.set_id(id);
  memfd.set_flags(static_cast<std::uint32_t>(flags));
  memfd.set_pos(0);
  *memfd.mutable_fown() = path_entry(id, {}, st, flags).fown();
  memfd.set_inode_id(object);
  return id;
}

std::uint32_t FileIds::shmid_for(dev_t dev, ino_t inode) {
  const auto [found, fresh] = shmids_.try_emplace({dev, inode}, last_shmid_ + 1);
  if (fresh) ++last_shmid_;
  return found->second;
}

std::uint32_t FileIds::memfd_object(int fd, const struct stat& st) {
  const std::uint32_t shmid = shmid_for(st.st_dev, st.st_ino);
  const bool fresh = !memfds_.contains(shmid);
  used_objects_.insert(shmid);
  image::MemfdInodeEntry& entry = memfds_[shmid];
  // Size, seals and owner may have changed since a former round.
  constexpr std::string_view prefix = "/memfd:";
  constexpr std::string_view suffix = " (deleted)";
  std::string link = read_link(fmt::format("/proc/self/fd/{}", fd));
  if (link.starts_with(prefix)) link.erase(0, prefix.size());
  if (link.ends_with(suffix)) link.resize(link.size() - suffix.size());
  entry.set_name(link);
  entry.set_uid(st.st_uid);
  entry.set_gid(st.st_gid);
  entry.set_size(static_cast<std::uint64_t>(st.st_size));
  entry.set_shmid(shmid);
  const int seals = ::fcntl(fd, F_GET_SEALS);
  entry.set_seals(seals > 0 ? static_cast<std::uint32_t>(seals) : 0);
  entry.set_inode_id(shmid);
  entry.set_mode(st.st_mode & 07777);
  if (fresh) {
    // Through /proc, because a descriptor of a mapping may lack the right to read.
    const int copy =
        check(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC), "open memfd {}", link);
    segments_.push_back({shmid, st.st_dev, st.st_ino, UniqueFd(copy)});
  }
  return shmid;
}

void FileIds::write(image::ImageSet& out) const { put(out, true); }
void FileIds::write_mapped(image::ImageSet& out) const { put(out, false); }

// CRIU wants the path of a terminal in a record of its own with the same id, in front. To us the last one counts.
void FileIds::put_open_file(const image::FileEntry& entry, image::ImageSet& out) {
  if (!entry.has_tty()) return out.append(image::Kind::files, 0, entry);
  image::FileEntry path, terminal = entry;
  path.set_type(image::FD_REG);
  path.set_id(entry.id());
  *path.mutable_reg() = entry.reg();
  out.append(image::Kind::files, 0, path);
  terminal.clear_reg();
  out.append(image::Kind::files, 0, terminal);
}

void FileIds::put(image::ImageSet& out, bool descriptors) const {
  image::ImageSet fresh;
  for (const auto& [id, entry] : mapping_entries_) fresh.append(image::Kind::files, 0, entry);
  if (descriptors)
    for (const auto& [id, entry] : descriptor_entries_) put_open_file(entry, fresh);
  for (const auto& [id, entry] : memfds_) fresh.append(image::Kind::memfd, 0, entry);
  for (const auto& [name, bytes] : fresh.files()) out.put_file(name, bytes);
}

}  // namespace godwit::engine::resources
