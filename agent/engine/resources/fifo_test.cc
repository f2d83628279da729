#include "agent/engine/resources/round_trip.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace godwit::engine::resources {
namespace {

TEST(Fifo, keeps_ends_and_content) {
  const std::string path = fmt::format("/tmp/godwit-fifo-{}", ::getpid());
  check(::mkfifo(path.c_str(), 0600), "make a fifo");
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::open(path.c_str(), O_RDONLY | O_NONBLOCK), 4);
                      place(::open(path.c_str(), O_WRONLY), 5);
                      check(::write(5, "inside", 6), "fill");
                    },
                    [&] {
                      std::string wrong = differs("content", "inside", now_or_never(4, 10));
                      ::write(5, "more", 4);
                      wrong += differs("connected", "more", now_or_never(4, 10));
                      wrong += differs("flags", true, (::fcntl(4, F_GETFL) & O_NONBLOCK) != 0);
                      ::close(5);
                      return wrong << differs("end", 0, ::read(4, wrong.data(), 1));
                    }));
  std::filesystem::remove(path);
}

// As before a restore on another machine, where somebody has written into a fifo of that name.
TEST(Fifo, with_the_bytes_of_somebody_else_is_refused) {
  const std::string path = fmt::format("/tmp/godwit-fifo-{}", ::getpid());
  check(::mkfifo(path.c_str(), 0600), "make a fifo");
  const Dumped dumped = dump_table(StoppedChild([&] {
    place(::open(path.c_str(), O_RDWR | O_NONBLOCK), 4);
    check(::write(4, "inside", 6), "fill");
  }));
  const UniqueFd stranger = open_file(path, O_RDWR | O_NONBLOCK);
  write_all(stranger.get(), "stranger");
  const std::string said = restore_and_verify(dumped, [] { return std::string(); });
  EXPECT_THAT(said, testing::HasSubstr("8 bytes are in the fifo " + path + " that are not the workload's"));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace godwit::engine::resources
