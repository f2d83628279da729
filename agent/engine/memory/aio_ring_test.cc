#include "agent/engine/memory/aio_ring.h"

#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

// The size of the ring that the kernel makes for so many requests.
std::uint64_t ring_for(std::uint32_t requests) {
  aio_context_t context = 0;
  if (::syscall(SYS_io_setup, requests, &context) != 0) return 0;
  std::uint64_t bytes = 0;
  for (const proc::Vma& vma : proc::Reader(::getpid()).maps())
    if (is_aio_ring(vma) && vma.start == context) bytes = vma.size();
  EXPECT_TRUE(reinterpret_cast<const AioRing*>(context)->valid(bytes)) << requests;
  ::syscall(SYS_io_destroy, context);
  return bytes;
}

TEST(AioRing, has_the_same_size_for_the_fewest_requests) {
  for (const std::uint32_t requests : {1u, 62u, 63u, 64u, 126u, 127u, 500u, 3000u, 20000u}) {
    const std::uint64_t bytes = ring_for(requests);
    if (bytes == 0) GTEST_SKIP() << "this machine has no native AIO, or no room for more of it";
    const std::uint32_t fewest = aio_requests(bytes);
    EXPECT_LE(fewest, requests);
    EXPECT_EQ(ring_for(fewest), bytes) << requests;
    if (bytes > ring_for(1)) EXPECT_LT(ring_for(fewest - 1), bytes) << requests;
  }
}

}  // namespace
}  // namespace godwit::engine
