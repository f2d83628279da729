#include "agent/engine/memory/absorber.h"

#include "common/base/check.h"
#include "common/pagewire/wire.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

using namespace pagewire;

constexpr std::uint64_t seed = 7;

class Counting : public FrameTarget {
 public:
  std::uint64_t pages_seen = 0;
  void pages(ObjectId, std::span<const pagewire::Run> runs, std::span<const std::byte>) override {
    pages_seen += pages_in(runs);
  }
  void zero(ObjectId, std::span<const pagewire::Run>) override {}
  void drop(ObjectId, std::span<const pagewire::Run>) override {}
  void file(std::string_view, std::uint64_t, std::span<const std::byte>, bool) override {}
  void round_ended(std::uint32_t) override {}
};

constexpr std::uint64_t window = 20 * max_payload + page_size;  // frames lie across its end

// A page server's spool: one stream, full frames of one byte each.
class AbsorberTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::mkdtemp(directory_.data());
    spool_ = open_file(directory_, O_RDONLY | O_DIRECTORY);
    file_ = open_at(spool_.get(), "stream-0", O_RDWR | O_CREAT, 0600);
    absorber_.emplace(open_file(directory_, O_RDONLY | O_DIRECTORY), seed, window);
  }
  void TearDown() override {
    ::unlinkat(spool_.get(), "stream-0", 0);
    ::rmdir(directory_.c_str());
  }

  void arrive(std::uint64_t count, std::byte fill = std::byte{0x41}) {
    for (; count > 0; count--) {
      const std::vector<std::byte> payload(max_payload, fill);
      FrameHeader header{.kind = FrameKind::pages, .runs = 1, .sequence = ++sequence_, .object = 0x701};
      header.payload_length = max_payload;
      const pagewire::Run run{sequence_ * max_payload, max_payload / page_size};
      const auto trailer = std::as_bytes(std::span(&run, 1));
      header.checksum = checksum(seed, header, trailer, payload);
      const SpoolPlace place = spool_place(window, end_, payload.size());
      pwrite_all(file_.get(), std::span(payload).first(place.first_length), static_cast<off_t>(place.first));
      pwrite_all(file_.get(), std::span(payload).subspan(place.first_length), 0);
      append_manifest(manifest_, header, trailer, end_);
      end_ += max_payload;
    }
    absorber_->manifest(manifest_);
    manifest_.clear();
  }
  void stored(std::uint64_t frames) { absorber_->stored(0, frames * max_payload); }

  std::string directory_ = "/dev/shm/godwit-absorber-XXXXXX";
  UniqueFd spool_, file_;
  std::optional<Absorber> absorber_;
  Counting target_;
  std::string manifest_;
  std::uint64_t sequence_ = 0, end_ = 0;
};

TEST_F(AbsorberTest, frees_a_megabyte_at_a_time_while_more_is_ready) {
  arrive(20);
  stored(20);
  EXPECT_EQ(absorber_->absorb(target_, 3), 3u);
  EXPECT_TRUE(absorber_->freed().empty());
  EXPECT_EQ(absorber_->absorb(target_, 2), 2u);
  const auto freed = absorber_->freed();
  ASSERT_EQ(freed.size(), 1u);
  EXPECT_EQ(freed[0].upto, 5 * max_payload);
  EXPECT_EQ(target_.pages_seen, 5 * max_payload / page_size);
}

// Else a page server whose quota is used up, and an engine that waits for it, would wait for each other.
TEST_F(AbsorberTest, frees_everything_when_it_waits_for_more) {
  arrive(20);
  stored(1);
  EXPECT_EQ(absorber_->absorb(target_), 1u);
  ASSERT_EQ(absorber_->freed().size(), 1u);
  EXPECT_TRUE(absorber_->freed().empty());
  EXPECT_TRUE(absorber_->waiting());
}

TEST_F(AbsorberTest, finds_frames_in_a_ring) {
  for (std::uint64_t i = 1; i <= 100; i++) {
    arrive(1, std::byte(i));
    stored(i);
    EXPECT_EQ(absorber_->absorb(target_), 1u);
  }
  EXPECT_EQ(target_.pages_seen, 100 * max_payload / page_size);
}

TEST_F(AbsorberTest, does_not_use_a_frame_whose_bytes_are_others) {
  arrive(2);
  stored(2);
  const std::byte other{0x42};
  check(::pwrite(file_.get(), &other, 1, static_cast<off_t>(max_payload + 5)), "write");
  EXPECT_THROW(absorber_->absorb(target_), Error);
  EXPECT_EQ(target_.pages_seen, max_payload / page_size);
}

TEST_F(AbsorberTest, refuses_streams_and_places_that_no_session_has) {
  const auto announced = [&](std::uint32_t stream, std::uint64_t offset) {
    FrameHeader header{.kind = FrameKind::pages, .runs = 1, .sequence = 1, .object = 0x701};
    header.payload_length = page_size;
    header.stream = stream;
    const pagewire::Run run{page_size, 1};
    std::string entries;
    append_manifest(entries, header, std::as_bytes(std::span(&run, 1)), offset);
    absorber_->manifest(entries);
  };
  EXPECT_THROW(announced(max_streams, 0), Error);
  EXPECT_THROW(announced(0, ~std::uint64_t{0} - 100), Error);
}

TEST_F(AbsorberTest, refuses_to_queue_without_end) {
  std::uint64_t sequence = 0;
  const auto flood = [&] {
    while (sequence < 2'000'000) {
      std::string entries;
      for (int i = 0; i < 500; ++i)
        append_manifest(entries, FrameHeader{.kind = FrameKind::round, .sequence = ++sequence}, {}, 0);
      absorber_->manifest(entries);
    }
  };
  EXPECT_THROW(flood(), Error);
}

}  // namespace
}  // namespace godwit::engine
