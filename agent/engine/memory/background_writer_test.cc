#include "agent/engine/memory/background_writer.h"

#include "common/base/check.h"
#include "common/base/fd.h"

#include <cstring>
#include <future>
#include <thread>
#include <tuple>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr std::size_t size = 4096;

UniqueFd memory() { return UniqueFd(check(::memfd_create("written", MFD_CLOEXEC), "create a memfd")); }

class BackgroundWriters : public testing::TestWithParam<std::tuple<std::size_t, Caller>> {};
INSTANTIATE_TEST_SUITE_P(threads, BackgroundWriters,
                         testing::Combine(testing::Values(1, 2, 5),
                                          testing::Values(Caller::only_fills, Caller::writes_too)));

TEST_P(BackgroundWriters, write_everything_where_it_belongs) {
  PageFile file(memory());
  constexpr int count = 100;  // far more than there are buffers
  {
    BackgroundWriter writer(size, std::get<0>(GetParam()), std::get<1>(GetParam()));
    for (int i = count - 1; i >= 0; i--) {
      std::memset(writer.buffer().data(), i, size);
      writer.write(file, static_cast<std::uint64_t>(i) * size, size);
    }
    writer.finish();
  }
  file.finish(count * size);
  for (int i = 0; i < count; i++) {
    std::vector<std::byte> read(size);
    pread_exact(file.fd(), read, i * static_cast<off_t>(size));
    EXPECT_EQ(read, std::vector<std::byte>(size, static_cast<std::byte>(i))) << i;
  }
}

TEST(BackgroundWriter, keeps_the_buffer_until_it_is_handed_over) {
  BackgroundWriter writer(size, 1);
  std::byte* const first = writer.buffer().data();
  EXPECT_EQ(writer.buffer().data(), first);
  PageFile file(memory());
  writer.write(file, 0, 0);  // nothing
  EXPECT_EQ(writer.buffer().data(), first);
}

TEST(BackgroundWriter, says_what_failed) {
  const UniqueFd file = memory();
  PageFile read_only(open_file(fmt::format("/proc/self/fd/{}", file.get()), O_RDONLY));
  BackgroundWriter writer(size, 2);
  writer.write(read_only, 0, size);
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_THROW(writer.write(read_only, 0, size), Error);
}

TEST(BackgroundWriter, lets_the_caller_write_while_its_threads_have_enough_to_do) {
  constexpr std::uint64_t apart = 2u << 20;
  constexpr int count = 40;
  PageFile file(memory());
  std::promise<void> go_on;
  int by_the_caller = 0;
  {
    BackgroundWriter writer(size, 1, Caller::writes_too);
    writer.write(file, 0, size, [held = go_on.get_future().share()] { held.wait(); });
    for (int i = 1; i < count; i++) {
      std::memset(writer.buffer().data(), i, size);
      writer.write(file, static_cast<std::uint64_t>(i) * apart, size, [&, caller = std::this_thread::get_id()] {
        if (std::this_thread::get_id() == caller) by_the_caller++;
      });
    }
    go_on.set_value();
    writer.finish();
  }
  EXPECT_GT(by_the_caller, count / 2);
  file.finish(count * apart);
  for (int i = 1; i < count; i++) {
    std::vector<std::byte> read(size);
    pread_exact(file.fd(), read, i * static_cast<off_t>(apart));
    EXPECT_EQ(read, std::vector<std::byte>(size, static_cast<std::byte>(i))) << i;
  }
}

// As a user who may have this many processes and threads.
int write_with_at_most(rlim_t processes) {
  PageFile file(memory());
  constexpr uid_t nobody_else = 4'242'424;
  const rlimit limit{processes, processes};
  check(::setresuid(nobody_else, nobody_else, nobody_else), "become somebody else");
  check(::setrlimit(RLIMIT_NPROC, &limit), "limit processes");
  try {
    BackgroundWriter writer(size, 4);
    writer.write(file, 0, size);
    writer.finish();
    return 0;
  } catch (const Error&) {
    return 1;
  }
}

TEST(BackgroundWriter, does_with_the_threads_that_it_can_have) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EXIT(::_exit(write_with_at_most(3)), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(::_exit(write_with_at_most(1)), testing::ExitedWithCode(1), "");
}

}  // namespace
}  // namespace godwit::engine
