#include "agent/engine/memory/aio_ring.h"

#include "agent/engine/memory/blank_requests.h"
#include "common/base/buffer.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/image/vma_status.h"

#include <algorithm>

#include <sys/mman.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

constexpr std::uint32_t ring_magic = 0xa10a10a1;
constexpr std::uint32_t known_compatible = 1;
constexpr std::uint64_t largest = 1u << 30;  // fs.aio-max-nr would have to be 16 million

std::uint64_t capacity_of(std::uint64_t bytes) { return bytes / sizeof(io_event) - 1; }

AioRing make_ring(RemoteSyscalls& remote, RemoteAddr scratch, int file, std::uint64_t bytes, std::uint64_t& address) {
  Batch batch(scratch);
  const RemoteAddr context = batch.reserve(sizeof(aio_context_t));
  const std::size_t setup = batch.attempt("make an AIO context", SYS_io_setup, aio_requests(bytes), context);
  remote.run(batch);
  if (batch.result(setup) == -EAGAIN)
    throw Error(Errc::no_space, "this host has no room for another AIO context", "raise fs.aio-max-nr");
  RemoteSyscalls::checked("make an AIO context", batch.result(setup));
  address = batch.read<aio_context_t>(context);
  return read_aio_ring(file, address);
}

// What was posted and not fetched takes up places, so all up to the head is fetched here, too, and nothing after it.
void advance(const BlankRequests& blanks, RemoteAddr context, const AioRing& to) {
  const std::uint32_t left = to.unfetched();
  for (std::uint32_t done = 0; done < to.head;) {
    BlankBatch batch(blanks, context, to.capacity);
    batch.submit(to.head - done);
    batch.fetch();
    batch.run();
    const std::uint32_t submitted = batch.submitted();
    if (submitted == 0) fail(Errc::internal, "an empty AIO ring takes no request");
    done += submitted;
  }
  BlankBatch batch(blanks, context, to.capacity);
  batch.submit(left);
  batch.run();
  if (batch.submitted() != left)
    fail(Errc::unsupported, "it has no room here for {} events that nobody has fetched", left);
}

}  // namespace

bool AioRing::valid(std::uint64_t bytes) const {
  return magic == ring_magic && compatible == known_compatible && incompatible == 0 && length == sizeof(AioRing) &&
         capacity == capacity_of(bytes) && head < capacity && tail < capacity;
}

bool is_aio_ring(const proc::Vma& vma) {
  return vma.kind == proc::VmaName::path && vma.deleted && vma.name.starts_with("/[aio]");
}

// Of n requests the kernel makes room for 2n + 2 events, so that half of them may be set aside for other CPUs, and
// fills the last page.
std::uint32_t aio_requests(std::uint64_t bytes) {
  const std::uint64_t before = (bytes - page_size) / sizeof(io_event);  // what one page less has room for
  return static_cast<std::uint32_t>(before < 4 ? 1 : (before - 2) / 2);
}

AioRing read_aio_ring(int file, std::uint64_t address) {
  AioRing ring{};
  pread_exact(file, std::as_writable_bytes(std::span(&ring, 1)), static_cast<off_t>(address));
  return ring;
}

image::VmaEntry aio_stand_in(const image::VmaEntry& entry) {
  image::VmaEntry memory = entry;
  memory.set_flags((entry.flags() & ~static_cast<std::uint32_t>(MAP_SHARED)) | MAP_PRIVATE | MAP_ANONYMOUS);
  memory.set_status(image::vma_status::regular | image::vma_status::anon_private | image::vma_status::aio_ring);
  memory.set_shmid(0);
  memory.set_pgoff(0);
  return memory;
}

void restore_aio_ring(RemoteSyscalls& remote, RemoteAddr scratch, int file, const image::VmaEntry& entry) {
  Doing doing("the AIO ring at {:#x}", entry.start());
  const std::uint64_t bytes = entry.end() - entry.start();
  const AioRing wanted = read_aio_ring(file, entry.start());
  if (bytes > largest || !wanted.valid(bytes)) fail(Errc::image_corrupt, "its content is none of a ring");
  std::uint64_t address = 0;
  const AioRing made = make_ring(remote, scratch, file, bytes, address);
  // The kernel makes room for four requests for each CPU at least.
  if (made.capacity != wanted.capacity)
    fail(Errc::unsupported, "here a ring for {} events has room for {}", wanted.capacity, made.capacity);
  advance(BlankRequests(remote, scratch), RemoteAddr{address}, wanted);
  const AioRing now = read_aio_ring(file, address);
  if (now.head != wanted.head || now.tail != wanted.tail)
    fail(Errc::internal, "it is at {}-{}, not at {}-{}", now.head, now.tail, wanted.head, wanted.tail);
  Buffer events(bytes - sizeof(AioRing));
  pread_exact(file, events, static_cast<off_t>(entry.start() + sizeof(AioRing)));
  pwrite_all(file, events, static_cast<off_t>(address + sizeof(AioRing)));
  remote.call("put an AIO ring into its place", SYS_mremap, address, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
              entry.start());
}

}  // namespace godwit::engine
