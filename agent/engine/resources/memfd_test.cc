#include "agent/engine/resources/round_trip.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace godwit::engine::resources {
namespace {

TEST(Memfd, keeps_content_position_seals_and_sharing) {
  EXPECT_EQ("", round_trip(
                    [] {
                      place(::memfd_create("plumage", MFD_ALLOW_SEALING), 4);
                      check(::write(4, "0123456789", 10), "write");
                      check(::ftruncate(4, 10'000), "grow");
                      ::lseek(4, 3, SEEK_SET);
                      place(::open("/proc/self/fd/4", O_RDONLY), 5);
                      check(::fcntl(4, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE), "seal");
                    },
                    [] {
                      struct stat st{};
                      ::fstat(5, &st);
                      return differs("content", "34", now_or_never(4, 2))
                             << differs("same object", "012", now_or_never(5, 3)) << differs("size", 10'000, st.st_size)
                             << differs("seals", F_SEAL_GROW | F_SEAL_WRITE, ::fcntl(4, F_GET_SEALS))
                             << differs("read only", O_RDONLY, ::fcntl(5, F_GETFL) & O_ACCMODE);
                    }));
}

}  // namespace
}  // namespace godwit::engine::resources
