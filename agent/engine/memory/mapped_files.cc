// The file half of AddressSpace: mappings of files, and what stands in for a file that is not there.
//
// A running program maps files, unmaps, replaces and removes them at any time, and a layout is a while old when it is
// applied: a file of it may be gone. Then anonymous memory stands in for the mapping, until the next layout is without
// it, or the file is there after all, or finish() says that it is missing. Or another file has its name, and its inode
// number as well, which file systems give out again: the same mapping for the source, though not of the file that was
// opened here before. So with each layout it is asked where the paths lead; with the last one the program stands still.
//
// Or it has been made anew and is still empty: a page that the source has written in the mapping of the old one has no
// place in it (SIGBUS, for the kernel EFAULT). It is kept, and written with one of the next layouts.

#include "agent/engine/memory/address_space.h"
#include "agent/engine/memory/calls.h"
#include "agent/engine/memory/pagemap_scan.h"
#include "common/base/check.h"
#include "common/image/vma_status.h"
#include "common/proc/maps.h"
#include "common/proc/reader.h"

#include <algorithm>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

constexpr std::uint32_t late_flags = MAP_LOCKED;  // put on in finish(): content goes in first

bool of_file(const image::VmaEntry& e) {
  return e.status() & (image::vma_status::file_private | image::vma_status::file_shared);
}

// CRIU has one entry for a file however it is mapped; how to open it says the mapping.
std::pair<std::uint64_t, std::uint32_t> open_file_of(const image::VmaEntry& e) { return {e.shmid(), e.fdflags()}; }

std::string opening(const std::string& path) { return fmt::format("open mapped file {}", path); }

}  // namespace

// The descriptors in the task for the files that `vmas` need; memfds are opened through their segment.
std::map<AddressSpace::OpenFile, int> AddressSpace::open_files(const Vmas& vmas, const FileOf& file) {
  std::map<OpenFile, std::pair<std::size_t, std::string>> calls;  // call and path
  std::map<OpenFile, int> numbers;
  Batch batch(scratch_);
  const auto run = [&] {
    remote_.run(batch);
    for (const auto& [key, call] : calls) {
      const long result = batch.result(call.first);
      if (result == -ENOENT || result == -ENOTDIR)
        absent_[key.first] = call.second;
      else
        numbers[key] = static_cast<int>(check_raw(result, "{}", opening(call.second)));
    }
    calls.clear();
    batch.clear();
  };
  for (const image::VmaEntry& e : vmas) {
    const OpenFile key = open_file_of(e);
    if (!of_file(e) || calls.contains(key) || numbers.contains(key) || absent_.contains(key.first)) continue;
    const MappedFile f = file(key.first);
    // A mapping that may never become writable does not stand in the way of a seal, made from a read-only descriptor:
    // so a memfd is opened once more.
    const std::string path = f.memfd ? fmt::format("/proc/self/fd/{}", segment_here(f.memfd)) : f.path;
    if (!batch.fits(1, path.size() + 64)) run();
    const int access = (e.has_fdflags() ? static_cast<int>(e.fdflags()) : f.flags) & O_ACCMODE;
    const int flags = access | O_CLOEXEC | O_NOCTTY;
    calls[key] = {batch.attempt(opening(path), SYS_openat, AT_FDCWD, batch.put(std::string_view(path)), flags, 0),
                  path};
  }
  run();
  return numbers;
}

// By id: the file behind a descriptor of the task or, where there is none, at a path; without those that are not there.
std::map<std::uint64_t, AddressSpace::Inode> AddressSpace::inodes(const std::vector<Named>& files) {
  struct Look {
    std::uint64_t id;
    std::size_t call;
    RemoteAddr answer;
  };
  std::map<std::uint64_t, Inode> found;
  std::vector<Look> looks;
  Batch batch(scratch_);
  const auto run = [&] {
    remote_.run(batch);
    for (const auto& [id, call, answer] : looks) {
      if (batch.result(call) != 0) continue;
      const auto st = batch.read<struct stat>(answer);
      const auto [known, fresh] = found.try_emplace(id, st.st_dev, st.st_ino);
      if (!fresh && known->second != Inode{st.st_dev, st.st_ino}) known->second = {};
    }
    looks.clear();
    batch.clear();
  };
  for (const Named& f : files) {
    if (!batch.fits(1, f.path.size() + sizeof(struct stat) + 128)) run();
    const RemoteAddr path = batch.put(std::string_view(f.path)), answer = batch.reserve(sizeof(struct stat));
    const std::size_t call = batch.attempt("look at a mapped file", SYS_newfstatat, f.number, path, answer,
                                           f.path.empty() ? AT_EMPTY_PATH : 0);
    looks.push_back({f.id, call, answer});
  }
  run();
  return found;
}

// Of which files the mappings are that were made by these descriptors. Where parts of one are of two files, they are of
// neither, and both are mapped anew with the next layout.
void AddressSpace::note_mapped(const std::map<OpenFile, int>& numbers, const FileOf& file) {
  std::vector<Named> files;
  for (const auto& [key, number] : numbers)
    if (!file(key.first).memfd) files.push_back({key.first, number, {}});
  for (const auto& [id, inode] : inodes(files)) {
    const auto [known, fresh] = mapped_.try_emplace(id, inode);
    if (!fresh && known->second != inode) known->second = {};
  }
}

// Those whose path leads to another file than the one that is mapped. A file that has only been removed stays mapped.
std::set<std::uint64_t> AddressSpace::exchanged_files(const Vmas& next, const FileOf& file) {
  std::set<std::uint64_t> wanted;
  std::vector<Named> files;
  for (const image::VmaEntry& e : next)
    if (of_file(e) && wanted.insert(e.shmid()).second && mapped_.contains(e.shmid()))
      files.push_back({e.shmid(), AT_FDCWD, file(e.shmid()).path});
  std::set<std::uint64_t> exchanged;
  for (const auto& [id, inode] : inodes(files))
    if (mapped_.at(id) != inode) exchanged.insert(id);
  std::erase_if(mapped_, [&](const auto& m) { return exchanged.contains(m.first) || !wanted.contains(m.first); });
  return exchanged;
}

void AddressSpace::map_all(const Vmas& vmas, const std::map<OpenFile, int>& files) {
  for (const image::VmaEntry& e : vmas)  // before the batch below is begun: taking one over runs calls of its own
    if (e.status() & image::vma_status::anon_shared) segment_here(e.shmid());
  Calls calls(remote_, scratch_);
  for (const image::VmaEntry& e : vmas) {
    int fd = -1;
    std::uint32_t flags = (e.flags() & ~late_flags) | MAP_FIXED_NOREPLACE;
    if (e.status() & image::vma_status::anon_shared) {
      fd = segment_here(e.shmid());
      flags &= ~static_cast<std::uint32_t>(MAP_ANONYMOUS);
    } else if (of_file(e) && absent_.contains(e.shmid())) {
      flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    } else if (of_file(e)) {
      fd = files.at(open_file_of(e));
    }
    calls.room().add(fmt::format("map {:#x}-{:#x}", e.start(), e.end()), SYS_mmap, e.start(), e.end() - e.start(),
                     e.prot(), flags, fd, e.pgoff());
    if (e.has_numa())
      numa::set_mapping(calls.room(numa::question_size), e.start(), e.end(), &e.numa(), numa::Pages::stay);
  }
  calls.run();
}

// Unmaps what stands in for a file that is there by now, or that `next` is without, and what is of another file than
// its path leads to. Returns the content that it had been given: the source will not send it again.
std::vector<AddressSpace::SavedPages> AddressSpace::unmap_outdated(const Vmas& next, const FileOf& file) {
  const std::set<std::uint64_t> exchanged = exchanged_files(next, file);
  if (absent_.empty() && exchanged.empty()) return {};
  const auto was_absent = std::exchange(absent_, {});
  Vmas wanted;
  std::ranges::copy_if(next, std::back_inserter(wanted),
                       [&](const image::VmaEntry& e) { return of_file(e) && was_absent.contains(e.shmid()); });
  Calls calls(remote_, scratch_);
  for (const auto& [key, number] : open_files(wanted, file)) calls.room().add("close a mapped file", SYS_close, number);

  const auto outdated = [&](const image::VmaEntry& e) {
    return of_file(e) &&
           (exchanged.contains(e.shmid()) || (was_absent.contains(e.shmid()) && !absent_.contains(e.shmid())));
  };
  std::vector<SavedPages> saved;
  for (const image::VmaEntry& e : layout_)
    if (outdated(e)) save(e, {e.start(), e.end()}, saved);
  std::vector<LayoutDelta::Range> unmapped;
  for (const image::VmaEntry& e : layout_) {
    if (!outdated(e)) continue;
    calls.room().add("unmap what is of another file", SYS_munmap, e.start(), e.end() - e.start());
    unmapped.push_back({e.start(), e.end()});
  }
  calls.run();
  forget(unmapped);
  std::erase_if(layout_, outdated);
  return saved;
}

// The pages of the task's own in a mapping: of what belongs to a file, those that were written.
std::vector<LayoutDelta::Range> AddressSpace::own_pages(const LayoutDelta::Range& range) const {
  PagemapScanner scanner(pagemap_.get());  // large: not kept for each task of a tree
  std::vector<PageRegion> filled;
  scanner.scan({.start = range.start, .end = range.end, .any_of = page_present | page_swapped}, filled);
  std::vector<LayoutDelta::Range> own;
  for (const PageRegion& r : filled)
    if (!(r.categories & (page_pfnzero | page_file))) own.push_back({r.start, r.end});
  return own;
}

// What is there in `range` of a mapping; not what only its parent is known to have.
void AddressSpace::save(const image::VmaEntry& mapping, const LayoutDelta::Range& range,
                        std::vector<SavedPages>& saved) {
  discard(unconfirmed_.runs(range.start, range.end));
  for (auto page = kept_.lower_bound(range.start); page != kept_.lower_bound(range.end); ++page)
    saved.push_back({mapping, page->first, page->second});
  for (const LayoutDelta::Range& r : own_pages(range)) {
    saved.push_back({mapping, r.start, Buffer(r.end - r.start)});
    pread_exact(memory_.get(), saved.back().content, static_cast<off_t>(r.start));
  }
}

// Where the mapping is another one by now, the content is of no use.
void AddressSpace::put_back(const std::vector<SavedPages>& saved) {
  for (const SavedPages& s : saved)
    for (std::uint64_t done = 0; done < s.content.size(); done += page_size)
      if (const image::VmaEntry* vma = vma_at(s.start + done); vma && same_backing(*vma, s.mapping))
        write_memory(s.start + done, std::span(s.content).subspan(done, page_size), false);
}

void AddressSpace::keep_for_later(std::uint64_t address, std::span<const std::byte> pages, int error) {
  for (std::size_t at = 0; at < pages.size(); at += page_size) {
    const image::VmaEntry* vma = vma_at(address + at);
    if (!vma || !of_file(*vma)) throw syscall_error(error, fmt::format("fill memory at {:#x}", address + at));
    Buffer page(page_size);
    copy(pages.subspan(at, page_size), page);
    kept_.insert_or_assign(address + at, std::move(page));
  }
}

void AddressSpace::write_kept() {
  for (const auto& [address, page] : std::exchange(kept_, {})) write_memory(address, page, false);
}

void AddressSpace::forget_kept(std::uint64_t start, std::uint64_t end) {
  kept_.erase(kept_.lower_bound(start), kept_.lower_bound(end));
}

void AddressSpace::require_files() {
  for (const auto& [id, path] : absent_) throw syscall_error(ENOENT, opening(path));
  write_kept();
  if (kept_.empty()) return;
  const std::uint64_t address = kept_.begin()->first;
  for (const proc::Vma& vma : proc::Reader(remote_.pid()).maps())
    if (address >= vma.start && address < vma.end)
      throw Error(Errc::not_found, fmt::format("mapped file {} ends before its page at {:#x}", vma.name, address),
                  "files must be as long here as at the source");
  fail(Errc::target_gone, "process {} has no mapping at {:#x} any more", remote_.pid(), address);
}

}  // namespace godwit::engine
