#include "agent/engine/memory/page_emitter.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <string>

namespace godwit::engine {
namespace {

using testing::ElementsAre;

constexpr std::uint64_t base = 0x100000;

std::uint64_t page(std::uint64_t number) { return base + number * page_size; }

// Page by page; '0' is zero.
class Text : public PageReader {
 public:
  explicit Text(std::string text) : text_(std::move(text)) {}
  void read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) override {
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++, into = into.subspan(page_size)) {
        const char c = text_.at((r.address - base) / page_size + i);
        std::ranges::fill(into.first(page_size), static_cast<std::byte>(c == '0' ? 0 : c));
      }
  }

 private:
  std::string text_;
};

class Sink : public PageSink {
 public:
  explicit Sink(bool live) : live_(live) {}
  std::span<std::byte> buffer() override { return buffer_; }
  std::uint64_t pages(pagewire::ObjectId, std::span<const pagewire::Run> runs) override {
    std::size_t at = 0;
    std::string said;
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++, at += page_size) {
        const auto c = static_cast<char>(buffer_[at]);
        said += fmt::format("{}{}", (r.address - base) / page_size + i, c == 0 ? '0' : c);
      }
    frames.push_back(said);
    return 0;
  }
  std::uint64_t zero(pagewire::ObjectId, std::span<const pagewire::Run> runs) override {
    std::string said = "zero";
    for (const pagewire::Run& r : runs) said += fmt::format(" {}+{}", (r.address - base) / page_size, r.pages);
    frames.push_back(said);
    return 0;
  }
  std::uint64_t drop(pagewire::ObjectId, std::span<const pagewire::Run>) override {
    if (too_slow) throw TooSlow();
    return 0;
  }
  std::uint64_t file(std::string_view, std::string_view) override { return 0; }
  std::uint64_t end_round() override { return 0; }
  void set_round(std::uint32_t) override {}
  std::uint64_t last_sequence() const override { return 0; }
  bool live() const override { return live_; }

  std::vector<std::string> frames;
  bool too_slow = false;

 private:
  bool live_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(pagewire::max_payload);
};

std::vector<std::string> frames_of(bool live, bool zero_matters, PageSet sent = {}) {
  Text reader("a0b");
  Sink sink(live);
  PageEmitter emitter(1, reader, sink, sent, nullptr);
  emitter.add(page(0), page(3), zero_matters);
  emitter.flush();
  EXPECT_EQ(sent.contains(page(1)), sink.frames.size() > 1 || sink.frames.front().find("10") != std::string::npos);
  return sink.frames;
}

TEST(PageEmitter, leaves_out_zero_pages_that_do_not_matter) {
  for (const bool live : {false, true}) EXPECT_THAT(frames_of(live, false), ElementsAre("0a2b"));
}

TEST(PageEmitter, tells_a_live_receiver_where_zero_pages_are) {
  EXPECT_THAT(frames_of(true, true), ElementsAre("0a2b", "zero 1+1"));
}

TEST(PageEmitter, leaves_zero_pages_in_their_place_for_images) {
  EXPECT_THAT(frames_of(false, true), ElementsAre("0a102b"));
}

TEST(PageEmitter, sends_a_page_that_has_become_zero) {
  PageSet sent;
  sent.add(page(1), page(2));
  EXPECT_THAT(frames_of(true, false, sent), ElementsAre("0a2b", "zero 1+1"));
  EXPECT_THAT(frames_of(false, false, sent), ElementsAre("0a102b"));
}

TEST(PageEmitter, still_counts_as_sent_what_a_slow_sink_was_not_told_to_drop) {
  Text reader("ab");
  Sink sink(true);
  PageSet sent;
  sent.add(page(0), page(2));
  for (const bool slow : {true, false}) {
    sink.too_slow = slow;
    {
      PageEmitter emitter(1, reader, sink, sent, nullptr);
      emitter.drop(page(0), page(2));
      if (slow)
        EXPECT_THROW(emitter.flush(), TooSlow);
      else
        emitter.flush();
    }
    EXPECT_EQ(sent.contains(page(0)), slow);
    EXPECT_EQ(sent.contains(page(1)), slow);
  }
}

}  // namespace
}  // namespace godwit::engine
