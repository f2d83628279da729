#include "agent/engine/resources/round_trip.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

namespace godwit::engine::resources {
namespace {

void watch(int epoll, int fd, std::uint32_t events, std::uint64_t data) {
  epoll_event event{.events = events, .data = {.u64 = data}};
  check(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "watch");
}

// What is ready now: data of the first event, its events; 0 when nothing is.
std::uint64_t ready(int epoll) {
  epoll_event event{};
  return ::epoll_wait(epoll, &event, 1, 0) == 1 ? event.data.u64 : 0;
}

void count(int eventfd) {
  const std::uint64_t one = 1;
  check(::write(eventfd, &one, sizeof one), "count");
}

TEST(Epoll, watches_what_it_watched_with_64_bits_of_data) {
  const std::uint64_t data = 0xfedcba9876543210;
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::eventfd(0, 0), 4);
                      place(::eventfd(0, 0), 5);
                      place(::epoll_create1(0), 3);
                      watch(3, 4, EPOLLIN, data);
                      watch(3, 5, EPOLLIN | EPOLLET, 77);
                    },
                    [&] {
                      std::string wrong = differs("silent", 0u, ready(3));
                      count(4);
                      wrong += differs("ready", data, ready(3)) << differs("still ready", data, ready(3));
                      std::uint64_t value = 0;
                      ::read(4, &value, sizeof value);
                      count(5);
                      return wrong << differs("edge", 77u, ready(3)) << differs("only once", 0u, ready(3));
                    }));
}

TEST(Epoll, follows_a_file_whose_number_was_closed_or_reused) {
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::epoll_create1(0), 3);
                      place(::eventfd(0, 0), 4);
                      watch(3, 4, EPOLLIN, 1);
                      check(::dup2(4, 9), "share");
                      place(::eventfd(0, 0), 4);
                      watch(3, 4, EPOLLIN, 2);
                      check(::dup2(4, 8), "share");
                      ::close(4);
                    },
                    [&] {
                      std::string wrong = differs("silent", 0u, ready(3)) << differs("closed", -1, ::fcntl(4, F_GETFD));
                      count(9);
                      wrong += differs("first", 1u, ready(3));
                      std::uint64_t value = 0;
                      ::read(9, &value, sizeof value);
                      count(8);
                      return wrong << differs("second", 2u, ready(3));
                    }));
}

TEST(Epoll, can_watch_another_epoll_file) {
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::epoll_create1(0), 3);
                      place(::epoll_create1(EPOLL_CLOEXEC), 4);
                      place(::eventfd(0, 0), 5);
                      watch(3, 4, EPOLLIN, 1);
                      watch(4, 5, EPOLLIN, 2);
                    },
                    [&] {
                      count(5);
                      return differs("outer", 1u, ready(3))
                             << differs("inner", 2u, ready(4)) << differs("flag", FD_CLOEXEC, ::fcntl(4, F_GETFD));
                    }));
}

}  // namespace
}  // namespace godwit::engine::resources
