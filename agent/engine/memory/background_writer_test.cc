#include "agent/engine/memory/background_writer.h"

#include "common/base/check.h"
#include "common/base/fd.h"

#include <cstring>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

namespace godwit::engine {
namespace {

constexpr std::size_t size = 4096;

UniqueFd memory() { return UniqueFd(check(::memfd_create("written", MFD_CLOEXEC), "create a memfd")); }

TEST(BackgroundWriter, writes_everything_where_it_belongs) {
  const UniqueFd file = memory();
  constexpr int count = 100;  // far more than there are buffers
  {
    BackgroundWriter writer(size);
    for (int i = count - 1; i >= 0; i--) {
      std::memset(writer.buffer().data(), i, size);
      writer.write(file.get(), i * static_cast<off_t>(size), size);
    }
    writer.finish();
  }
  for (int i = 0; i < count; i++) {
    std::vector<std::byte> read(size);
    pread_exact(file.get(), read, i * static_cast<off_t>(size));
    EXPECT_EQ(read, std::vector<std::byte>(size, static_cast<std::byte>(i))) << i;
  }
}

TEST(BackgroundWriter, keeps_the_buffer_until_it_is_handed_over) {
  BackgroundWriter writer(size);
  std::byte* const first = writer.buffer().data();
  EXPECT_EQ(writer.buffer().data(), first);
  const UniqueFd file = memory();
  writer.write(file.get(), 0, 0);  // nothing
  EXPECT_EQ(writer.buffer().data(), first);
}

TEST(BackgroundWriter, says_what_failed) {
  const UniqueFd file = memory();
  const UniqueFd read_only = open_file(fmt::format("/proc/self/fd/{}", file.get()), O_RDONLY);
  BackgroundWriter writer(size);
  writer.write(read_only.get(), 0, size);
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_THROW(writer.write(file.get(), 0, size), Error);
}

}  // namespace
}  // namespace godwit::engine
