#include "agent/engine/memory/address_space.h"

#include "agent/engine/memory/aio_ring.h"
#include "agent/engine/memory/calls.h"
#include "common/base/check.h"
#include "common/image/vma_status.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fcntl.h>
#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

constexpr int madv_guard_install = 102;  // 6.13+
constexpr int prctl_set_vma = 0x53564d41;
constexpr long sys_mseal = 462;  // 6.10+

bool made_by_kernel(const image::VmaEntry& e) {
  return e.status() & (image::vma_status::vdso | image::vma_status::vvar | image::vma_status::vsyscall);
}
bool is_ring(const image::VmaEntry& e) { return e.status() & image::vma_status::aio_ring; }
bool private_anonymous(const image::VmaEntry& e) { return (e.flags() & MAP_ANONYMOUS) && !(e.flags() & MAP_SHARED); }

}  // namespace

AddressSpace::AddressSpace(RemoteSyscalls& remote, RemoteAddr scratch, int pidfd, RestoredSegments& segments,
                           Inherited inherited)
    : remote_(remote),
      scratch_(scratch),
      pidfd_(pidfd),
      memory_(open_file(fmt::format("/proc/{}/mem", remote.pid()), O_RDWR)),
      pagemap_(open_file(fmt::format("/proc/{}/pagemap", remote.pid()), O_RDONLY)),
      placer_(remote, pidfd),
      layout_(std::move(inherited.mappings)),
      segments_(segments),
      mapped_(std::move(inherited.files)),
      policies_(remote.pid()) {
  note_forked();
}

void AddressSpace::apply(const Vmas& vmas, const FileOf& file) {
  Vmas target;
  for (const image::VmaEntry& e : vmas) {
    if (!made_by_kernel(e)) target.push_back(is_ring(e) ? aio_stand_in(e) : e);
    if (e.status() & image::vma_status::vdso) vdso_range_ = {e.start(), e.end()};
  }
  for (const image::VmaEntry& e : target)
    if (e.has_numa()) policies_.require(e.numa());
  std::vector<SavedPages> saved = outgrow_fork(target);
  target = united(target, forked_);
  size_segments(target);
  std::ranges::move(unmap_outdated(target, file), std::back_inserter(saved));
  const LayoutDelta delta = difference(layout_, target);
  const std::map<OpenFile, int> files = open_files(delta.map, file);
  note_mapped(files, file);
  Calls calls(remote_, scratch_);
  for (const auto& [start, end] : delta.unmap) calls.room().add("unmap", SYS_munmap, start, end - start);
  calls.run();
  forget(delta.unmap);
  const bool changed = !delta.map.empty() || !delta.protect.empty() || !delta.place.empty();
  if (changed) placer_.release();  // else a new part would not join the old ones
  map_all(delta.map, files);
  for (const LayoutDelta::Protect& p : delta.protect)
    calls.room().add("protect", SYS_mprotect, p.range.start, p.range.end - p.range.start, p.prot);
  for (const LayoutDelta::Place& p : delta.place)
    numa::set_mapping(calls.room(numa::question_size), p.range.start, p.range.end, p.policy ? &*p.policy : nullptr,
                      numa::Pages::move);
  for (const auto& [key, number] : files) calls.room().add("close a mapped file", SYS_close, number);
  calls.run();
  layout_ = std::move(target);
  put_back(saved);
  write_kept();
  if (changed) unite_mappings();
}

void AddressSpace::size_segments(const Vmas& vmas) {
  for (const image::VmaEntry& e : vmas)
    if (e.status() & image::vma_status::anon_shared) segments_.reaches(e.shmid(), e.pgoff() + (e.end() - e.start()));
}

// The task's own descriptor of a segment, taken over from the one that has made it.
int AddressSpace::segment_here(std::uint64_t shmid) {
  if (const auto known = numbers_.find(shmid); known != numbers_.end()) return known->second;
  const int number = segments_.number(shmid);
  const long maker = maker_ < 0 ? remote_.call("open the maker of shared memory", SYS_pidfd_open, segments_.maker(), 0)
                                : remote_.call("duplicate a pidfd", SYS_dup, maker_);
  const long here = remote_.call("take over shared memory", SYS_pidfd_getfd, maker, number, 0);
  remote_.call("close a pidfd", SYS_close, maker);
  return numbers_[shmid] = static_cast<int>(here);
}

const image::VmaEntry* AddressSpace::vma_at(std::uint64_t address) const {
  auto it = std::upper_bound(layout_.begin(), layout_.end(), address,
                             [](std::uint64_t a, const image::VmaEntry& e) { return a < e.start(); });
  if (it == layout_.begin()) return nullptr;
  --it;
  return address < it->end() ? &*it : nullptr;
}

bool AddressSpace::writable(const image::VmaEntry& e) { return (e.prot() & PROT_WRITE) && (e.prot() & PROT_READ); }

// By the kernel: `from` may be mapped from a file that becomes shorter meanwhile.
void AddressSpace::copy(std::span<const std::byte> from, std::span<std::byte> to) {
  const iovec local{to.data(), to.size()};
  const iovec remote{const_cast<std::byte*>(from.data()), from.size()};
  const ssize_t n = check(::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0), "copy pages");
  if (static_cast<std::size_t>(n) != from.size()) fail(Errc::internal, "of {} bytes {} were copied", from.size(), n);
}

// Where nothing can be, beyond the end of a mapped file, the content is kept for later.
void AddressSpace::write_memory(std::uint64_t address, std::span<const std::byte> data, bool direct) {
  const iovec place{reinterpret_cast<void*>(address), data.size()};
  // /proc/PID/mem writes where the task itself may not: PROT_NONE, read-only.
  const ssize_t n = direct ? write_directly({&place, 1}, data)
                           : ::pwrite(memory_.get(), data.data(), data.size(), static_cast<off_t>(address));
  const int error = n < 0 ? errno : direct ? EFAULT : EIO;  // behind what was written
  if (n < 0 && error != EFAULT && error != EIO) check(n, "fill memory at {:#x}", address);
  if (n == 0) fail(Errc::target_gone, "process {} has no memory any more", remote_.pid());
  const std::uint64_t written = n < 0 ? 0 : static_cast<std::uint64_t>(n) / page_size * page_size;
  if (written < data.size()) keep_for_later(address + written, data.subspan(written), error);
}

ssize_t AddressSpace::write_directly(std::span<const iovec> to, std::span<const std::byte> data) const {
  const iovec local{const_cast<std::byte*>(data.data()), data.size()};
  return ::process_vm_writev(remote_.pid(), &local, 1, to.data(), to.size(), 0);
}

bool AddressSpace::keep_vdso(std::uint64_t address, std::span<const std::byte> page) {
  constexpr std::uint64_t largest = 64 * page_size;
  const std::uint64_t size = vdso_range_.end - vdso_range_.start;
  if (address < vdso_range_.start || address >= vdso_range_.end || size > largest) return false;
  vdso_.resize(size);
  copy(page, std::as_writable_bytes(std::span(vdso_)).subspan(address - vdso_range_.start, page.size()));
  return true;
}

// The first piece of `data`: placed without a fault, or there from the parent, or left to be written, where pages are
// there already or cannot be placed.
AddressSpace::Piece AddressSpace::place(const image::VmaEntry& vma, std::uint64_t address,
                                        std::span<const std::byte> data) {
  if (const std::vector<pagewire::Run> had = unconfirmed_.runs(address, address + data.size()); !had.empty()) {
    if (had.front().address == address) return {confirm(vma, address, data.first(had.front().pages * page_size)), 0};
    data = data.first(had.front().address - address);
  }
  if (!private_anonymous(vma)) return {0, data.size()};
  const std::vector<pagewire::Run> there = placed_.runs(address, address + data.size());
  if (!there.empty() && there.front().address == address) return {0, there.front().pages * page_size};
  const std::uint64_t missing = there.empty() ? data.size() : there.front().address - address;
  const auto placed = placer_.place(vma.start(), vma.end(), address, data.first(missing));
  const std::uint64_t piece = !placed ? missing : *placed == 0 ? page_size : *placed;
  placed_.add(address, address + piece);
  return placed && *placed ? Piece{piece, 0} : Piece{0, piece};
}

void AddressSpace::fill(std::span<const pagewire::Run> runs, std::span<const std::byte> data) {
  // Neighbouring pieces of writable memory go in one call.
  std::vector<iovec> remote;
  std::size_t begun = 0, at = 0;
  const auto flush = [&] {
    if (remote.empty()) return;
    std::span<const std::byte> left = data.subspan(begun, at - begun);
    if (write_directly(remote, left) != static_cast<ssize_t>(left.size()))
      for (const iovec& piece : remote) {
        write_memory(reinterpret_cast<std::uint64_t>(piece.iov_base), left.first(piece.iov_len), true);
        left = left.subspan(piece.iov_len);
      }
    remote.clear();
  };
  for (const pagewire::Run& r : runs) forget_kept(r.address, r.address + r.pages * page_size);
  for (const pagewire::Run& r : runs)
    for (std::uint64_t address = r.address, end = r.address + r.pages * page_size; address < end;) {
      const image::VmaEntry* vma = vma_at(address);
      if (!vma) {
        flush();
        if (!keep_vdso(address, data.subspan(at, page_size)))
          fail(Errc::image_corrupt, "pages at {:#x}, where the layout has no mapping", address);
        address += page_size;
        at += page_size;
        continue;
      }
      const auto [placed, length] = place(*vma, address, data.subspan(at, std::min(end, vma->end()) - address));
      if (placed > 0) {
        flush();
        at += placed;
        address += placed;
        continue;
      }
      if (writable(*vma)) {
        if (remote.empty()) begun = at;
        remote.push_back({reinterpret_cast<void*>(address), length});
        at += length;
      } else {
        flush();
        write_memory(address, data.subspan(at, length), false);
        at += length;
      }
      address += length;
    }
  flush();
}

void AddressSpace::zero(std::span<const pagewire::Run> runs) {
  static constexpr std::array<std::byte, page_size> zeros{};
  std::vector<pagewire::Run> anonymous;
  for (const pagewire::Run& r : runs)
    for (std::uint64_t page = r.address; page < r.address + r.pages * page_size; page += page_size) {
      const image::VmaEntry* vma = vma_at(page);
      if (!vma) fail(Errc::image_corrupt, "zero page at {:#x}, where the layout has no mapping", page);
      if (private_anonymous(*vma)) {
        anonymous.push_back({page, 1});
      } else {
        forget_kept(page, page + page_size);
        write_memory(page, zeros, writable(*vma));
        unconfirmed_.remove(page, page + page_size);
      }
    }
  discard(anonymous);
}

void AddressSpace::drop(std::span<const pagewire::Run> runs) { discard(runs); }

void AddressSpace::discard(std::span<const pagewire::Run> runs) {
  Calls calls(remote_, scratch_);
  for (const pagewire::Run& r : runs)
    for (std::uint64_t address = r.address, end = r.address + r.pages * page_size; address < end;) {
      const image::VmaEntry* vma = vma_at(address);
      if (!vma) {  // unmapped meanwhile: nothing is left to drop
        address += page_size;
        continue;
      }
      const std::uint64_t length = std::min(end, vma->end()) - address;
      forget_pages(address, address + length);
      if (!(vma->flags() & MAP_SHARED)) calls.room().add("drop pages", SYS_madvise, address, length, MADV_DONTNEED);
      address += length;
    }
  calls.run();
}

void AddressSpace::finish(const Vmas& last) {
  require_files();
  check_layout(last);
  placer_.release();
  discard(unconfirmed_.runs());  // every page that the task has was there by now
  for (const image::VmaEntry& e : layout_)
    if (is_ring(e)) restore_aio_ring(remote_, scratch_, memory_.get(), e);
  Calls calls(remote_, scratch_);
  for (const image::VmaEntry& e : layout_)
    if (is_ring(e) && e.has_numa())  // which its stand-in had until now
      numa::set_mapping(calls.room(numa::question_size), e.start(), e.end(), &e.numa(), numa::Pages::move);
  for (const image::VmaEntry& e : last)
    for (int i = 0; i + 1 < e.guards_size(); i += 2)
      calls.room().add("install guard pages", SYS_madvise, e.guards(i), e.guards(i + 1) - e.guards(i),
                       madv_guard_install);
  for (const image::VmaEntry& e : layout_) {
    const std::uint64_t length = e.end() - e.start();
    for (int advice = 0; advice < 64; advice++)
      if (e.madv() >> advice & 1) calls.room().add("advise", SYS_madvise, e.start(), length, advice);
    if (e.has_anon_name()) {
      Batch& batch = calls.room(e.anon_name().size() + 64);
      const RemoteAddr name = batch.put(std::string_view(e.anon_name()));
      batch.add("name memory", SYS_prctl, prctl_set_vma, PR_SET_VMA_ANON_NAME, e.start(), length, name);
    }
    if (e.flags() & MAP_LOCKED)
      calls.room().add("lock memory", SYS_mlock2, e.start(), length, e.locked_on_fault() ? MLOCK_ONFAULT : 0);
    if (e.sealed()) calls.room().add("seal memory", sys_mseal, e.start(), length, 0);
  }
  calls.run();
}

}  // namespace godwit::engine
