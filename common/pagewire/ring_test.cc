#include "common/pagewire/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <thread>

namespace godwit::pagewire {
namespace {

using namespace std::chrono_literals;

RingFds duplicate(const RingFds& fds) {
  const auto dup = [](const UniqueFd& fd) { return UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0), "dup")); };
  return {dup(fds.memory), dup(fds.data), dup(fds.space)};
}

// Both ends of one ring, as two processes would have them.
struct Ends {
  RingFds fds;
  Ring producer, consumer;
  explicit Ends(std::size_t capacity) : fds(make_ring(capacity)), producer(duplicate(fds)), consumer(duplicate(fds)) {}
};

void put(Ring& ring, std::size_t length, std::byte fill) {
  const auto space = ring.reserve(length + 100, 5000ms);  // more than needed, as the engine does
  std::memset(space.data(), std::to_integer<int>(fill), length);
  ring.commit(length);
}

bool is(std::span<const std::byte> bytes, std::size_t length, std::byte fill) {
  return bytes.size() == length && std::ranges::all_of(bytes, [=](std::byte b) { return b == fill; });
}

TEST(Ring, is_passed_on_over_a_socket) {
  auto [one, other] = make_socketpair(AF_UNIX, SOCK_STREAM);
  RingFds made = make_ring(16384);
  send_ring(one.get(), made);
  Ring consumer(std::move(made)), producer(receive_ring(other.get(), 5000ms));
  put(producer, 1000, std::byte{7});
  EXPECT_TRUE(is(consumer.front().value(), 1000, std::byte{7}));

  one.reset();
  EXPECT_THROW(receive_ring(other.get(), 5000ms), Error);
}

TEST(Ring, is_empty_at_first) {
  Ends e(16384);
  EXPECT_FALSE(e.consumer.front());
  EXPECT_FALSE(e.consumer.next());
}

TEST(Ring, shows_a_record_only_when_it_is_committed) {
  Ends e(16384);
  e.producer.reserve(100, 0ms);
  EXPECT_FALSE(e.consumer.front());
  e.producer.commit(10);
  ASSERT_TRUE(e.consumer.front());
  EXPECT_EQ(e.consumer.front()->size(), 10u);
  pollfd ready{.fd = e.consumer.data_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ready, 1, 0), 1);
}

TEST(Ring, hands_out_several_records_before_they_are_released) {
  Ends e(16384);
  for (int i = 1; i <= 3; ++i) put(e.producer, 1000, std::byte(i));
  for (int i = 1; i <= 3; ++i) EXPECT_TRUE(is(e.consumer.next().value(), 1000, std::byte(i)));
  EXPECT_FALSE(e.consumer.next());
  for (int i = 1; i <= 3; ++i) {
    EXPECT_TRUE(is(e.consumer.front().value(), 1000, std::byte(i)));
    e.consumer.release();
  }
  EXPECT_FALSE(e.consumer.front());
  EXPECT_THROW(e.consumer.release(), Error);
}

TEST(Ring, publishes_a_part_of_what_was_reserved) {
  Ends e(16384);
  const auto space = e.producer.reserve(1000, 0ms);
  std::memset(space.data(), 1, space.size());
  std::memset(space.data() + 300, 2, 200);
  e.producer.commit(200, 300);
  put(e.producer, 100, std::byte{3});
  EXPECT_TRUE(is(e.consumer.front().value(), 200, std::byte{2}));
  e.consumer.release();
  EXPECT_TRUE(is(e.consumer.front().value(), 100, std::byte{3}));
  e.producer.reserve(1000, 0ms);
  EXPECT_THROW(e.producer.commit(701, 300), Error);
}

TEST(Ring, waits_for_space_and_says_when_it_waited_too_long) {
  Ends e(8192);
  put(e.producer, 3000, std::byte{1});
  put(e.producer, 3000, std::byte{2});
  try {
    e.producer.reserve(3000, 20ms);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::timed_out);
  }
  std::thread later([&] {
    std::this_thread::sleep_for(20ms);
    e.consumer.release();
    e.consumer.release();
  });
  e.producer.reserve(3000, 5000ms);
  later.join();
}

TEST(Ring, refuses_a_record_that_might_never_fit) {
  Ends e(8192);
  EXPECT_THROW(e.producer.reserve(5000, 0ms), Error);
}

TEST(Ring, carries_records_of_all_sizes_between_threads) {
  Ends e(64 * 1024);
  constexpr int count = 20000;
  std::thread producer([&] {
    for (int i = 0; i < count; ++i) put(e.producer, static_cast<std::size_t>(i * 37 % 20000), std::byte(i));
  });
  for (int i = 0; i < count;) {
    const auto record = e.consumer.front();
    if (!record) {
      pollfd ready{.fd = e.consumer.data_fd(), .events = POLLIN, .revents = 0};
      ASSERT_EQ(::poll(&ready, 1, 5000), 1);
      std::uint64_t n;
      std::ignore = ::read(e.consumer.data_fd(), &n, 8);
      continue;
    }
    ASSERT_TRUE(is(*record, static_cast<std::size_t>(i * 37 % 20000), std::byte(i))) << i;
    e.consumer.release();
    ++i;
  }
  producer.join();
}

TEST(Ring, does_not_follow_lengths_that_lead_out_of_it) {
  Ends e(8192);
  put(e.producer, 100, std::byte{1});
  void* at = ::mmap(nullptr, 3 * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, e.fds.memory.get(), 0);
  ASSERT_NE(at, MAP_FAILED);
  auto* length = reinterpret_cast<std::uint32_t*>(static_cast<std::byte*>(at) + page_size + 4);
  *length = 0xfffffff0;
  EXPECT_THROW(e.consumer.front(), Error);
  *length = 8192;
  EXPECT_THROW(e.consumer.front(), Error);
  *length = 100;
  auto* begin = length + 1;
  *begin = 0xffffffff;
  EXPECT_THROW(e.consumer.front(), Error);
  *begin = 0;
  auto* head = static_cast<std::uint64_t*>(at);
  *head = 1u << 30;
  EXPECT_THROW(e.consumer.front(), Error);
  ::munmap(at, 3 * page_size);
}

}  // namespace
}  // namespace godwit::pagewire
