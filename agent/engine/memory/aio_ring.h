// Rings of native AIO (io_setup): a context's completed events, which nobody has fetched yet, in a mapping whose
// address is the context's id. What else the kernel knows of a context (where it posts the next event, how many
// requests may be in flight) it shows to nobody. At the destination a ring of the same size is made, requests that come
// to nothing bring its tail to where it was, and mremap puts it into its place, which also changes the id.
#pragma once

#include "agent/engine/ptrace/remote_syscalls.h"
#include "common/image/mm.pb.h"
#include "common/proc/maps.h"

#include <cstdint>
#include <span>

#include <linux/aio_abi.h>

namespace godwit::engine {

// At the start of the mapping; `capacity` events follow. fs/aio.c has it to itself, but libraries read it.
struct AioRing {
  std::uint32_t id, capacity, head, tail, magic, compatible, incompatible, length;

  // The format is known, and it fills a mapping of `bytes`.
  bool valid(std::uint64_t bytes) const;
  std::uint32_t unfetched() const { return distance(head, tail); }
  std::uint32_t distance(std::uint32_t from, std::uint32_t to) const { return (to + capacity - from) % capacity; }
};
static_assert(sizeof(AioRing) == sizeof(io_event));

bool is_aio_ring(const proc::Vma& vma);

// Fewest requests for which io_setup makes a ring of that size.
std::uint32_t aio_requests(std::uint64_t bytes);

// `file` is the /proc/PID/mem of a stopped process.
AioRing read_aio_ring(int file, std::uint64_t address);

// What a layout maps until the ring is made: anonymous memory for its content.
image::VmaEntry aio_stand_in(const image::VmaEntry& entry);
// Puts the ring in the place of that.
void restore_aio_ring(RemoteSyscalls& remote, RemoteAddr scratch, int file, const image::VmaEntry& entry);

}  // namespace godwit::engine
