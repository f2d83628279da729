// The shared-memory half of AddressSpace: segments live in the task, so that the task's own mappings and descriptors
// refer to them; we hold a second descriptor to fill them.

#include "agent/engine/memory/address_space.h"

#include "common/base/check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {

void AddressSpace::declare(std::uint64_t shmid, SegmentSpec spec) { segments_[shmid].spec = std::move(spec); }

AddressSpace::Segment& AddressSpace::segment(std::uint64_t shmid) {
  Segment& s = segments_[shmid];
  if (!s.fd) {
    Doing doing("making shared memory {}", shmid);
    if (s.spec.memfd)
      make_memfd(s);
    else
      make_anonymous(s);
    s.fd.reset(static_cast<int>(check(::syscall(SYS_pidfd_getfd, pidfd_, s.number, 0), "take over its descriptor")));
  }
  return s;
}

void AddressSpace::make_memfd(Segment& s) {
  Batch batch(scratch_);
  const RemoteAddr name = batch.put(std::string_view(s.spec.memfd_name));
  const std::size_t fd = batch.add("create a memfd", SYS_memfd_create, name, s.spec.create_flags | MFD_CLOEXEC);
  remote_.run(batch);
  s.number = static_cast<int>(batch.result(fd));
  batch.clear();
  batch.add("size a memfd", SYS_ftruncate, s.number, s.spec.size);
  remote_.run(batch);
}

// Only a mapping makes such memory; its file is then reached through /proc/self/map_files, so that every mapping of it,
// now and in later rounds, can be made from one descriptor.
void AddressSpace::make_anonymous(Segment& s) {
  if (s.spec.size == 0)
    fail(Errc::image_corrupt, "it has pages, but no mapping and nothing in memfd.img says how large it is");
  Batch batch(scratch_);
  const std::uint64_t length = page_up(s.spec.size);
  const std::size_t map =
      batch.add("map shared memory", SYS_mmap, 0, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  remote_.run(batch);
  const std::uint64_t at = static_cast<std::uint64_t>(batch.result(map));
  batch.clear();
  const RemoteAddr path = batch.put(std::string_view(fmt::format("/proc/self/map_files/{:x}-{:x}", at, at + length)));
  const std::size_t fd = batch.add("open shared memory", SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  batch.add("unmap it here", SYS_munmap, at, length);
  remote_.run(batch);
  s.number = static_cast<int>(batch.result(fd));
}

void AddressSpace::fill_segment(std::uint64_t shmid, std::span<const pagewire::Run> runs,
                                std::span<const std::byte> data) {
  Segment& s = segment(shmid);
  for (const pagewire::Run& r : runs) {
    const std::span<const std::byte> part = data.subspan(0, r.pages * page_size);
    data = data.subspan(part.size());
    // Past the end this makes it longer. Shared anonymous memory may reach further than its mappings: mremap brings
    // that back. A memfd may be shortened and lengthened all the time: it gets its last size in the end.
    pwrite_all(s.fd.get(), part, static_cast<off_t>(r.address));
  }
}

void AddressSpace::finish_segments() {
  for (const auto& [shmid, s] : segments_)
    if (s.fd && s.spec.memfd)
      check(::ftruncate(s.fd.get(), static_cast<off_t>(s.spec.size)), "size shared memory {}", shmid);
}

void AddressSpace::clear_segment(std::uint64_t shmid, std::span<const pagewire::Run> runs) {
  Segment& s = segment(shmid);
  for (const pagewire::Run& r : runs)
    check(::fallocate(s.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(r.address),
                      static_cast<off_t>(r.pages * page_size)),
          "punch shared memory {}", shmid);
}

std::map<std::uint32_t, int> AddressSpace::segments() {
  std::map<std::uint32_t, int> numbers;
  for (auto& [shmid, s] : segments_) numbers[static_cast<std::uint32_t>(shmid)] = segment(shmid).number;
  return numbers;
}

}  // namespace godwit::engine
