#include "agent/engine/resources/round_trip.h"

#include <cstring>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>

namespace godwit::engine::resources {
namespace {

class Inotify : public ::testing::Test {
 protected:
  Inotify() {
    char name[] = "/tmp/godwit-inotify-XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~Inotify() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
};

TEST_F(Inotify, keeps_watches_under_their_numbers) {
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::inotify_init1(IN_NONBLOCK), 4);
                      for (int i = 0; i < 4; ++i) {  // numbers are not used again: the last is 5
                        ::inotify_rm_watch(4, ::inotify_add_watch(4, "/usr", IN_CREATE));
                        (void)now_or_never(4, 4096);
                      }
                      check(::inotify_add_watch(4, directory_.c_str(), IN_CREATE | IN_DELETE), "watch");
                    },
                    [&] {
                      write_file(directory_ + "/egg", "");
                      const std::string bytes = now_or_never(4, 4096);
                      if (bytes.size() < sizeof(inotify_event)) return "no event: " + bytes;
                      inotify_event event{};
                      bytes.copy(reinterpret_cast<char*>(&event), sizeof event);
                      return differs("watch", 5, event.wd)
                             << differs("mask", std::uint32_t{IN_CREATE}, event.mask)
                             << differs("name", std::string("egg"), std::string(bytes.data() + sizeof event));
                    }));
}

TEST_F(Inotify, with_events_not_read_yet_asks_to_try_again) {
  const StoppedChild child([&] {
    place(::inotify_init1(0), 4);
    check(::inotify_add_watch(4, directory_.c_str(), IN_CREATE), "watch");
    write_file(directory_ + "/egg", "");
  });
  try {
    dump_table(child);
    ADD_FAILURE() << "dumped";
  } catch (const Error& e) {
    EXPECT_EQ(Errc::busy, e.errc());
    EXPECT_THAT(e.message(), ::testing::HasSubstr("events that have not been read"));
  }
}

}  // namespace
}  // namespace godwit::engine::resources
