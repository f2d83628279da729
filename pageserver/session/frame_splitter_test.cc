#include "pageserver/session/frame_splitter.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

#include <string>

namespace godwit::pageserver {
namespace {

using namespace pagewire;

void append(std::string& wire, FrameHeader header, std::string_view trailer, std::string_view payload) {
  header.payload_length = static_cast<std::uint32_t>(payload.size());
  wire.append(reinterpret_cast<const char*>(&header), sizeof header);
  wire += trailer;
  wire += payload;
}

std::string two_frames_and_a_round() {
  std::string wire;
  const std::string pages(2 * page_size, 'p'), text = "0123456789", runs(sizeof(Run), '\0');
  append(wire, {.kind = FrameKind::pages, .runs = 1, .sequence = 1, .object = 0x101}, runs, pages);
  append(wire, {.kind = FrameKind::file, .sequence = 3, .name_length = 4}, "a.im", text);
  append(wire, {.kind = FrameKind::zero, .runs = 1, .sequence = 4, .object = 0x101}, runs, "");
  append(wire, {.kind = FrameKind::round, .sequence = 5}, "", "");
  return wire;
}

std::string expected_payload() {
  return std::string(2 * page_size, 'p') + "0123456789" + std::string(page_size - 10, '\0');
}

// All payload of `wire`, fed in chunks.
std::string payload_of(FrameSplitter& splitter, std::string_view wire, std::size_t chunk, std::uint64_t allowance) {
  std::string out;
  std::vector<FrameSplitter::Piece> pieces;
  while (!wire.empty()) {
    pieces.clear();
    const std::size_t n = splitter.take(std::as_bytes(std::span(wire.substr(0, chunk))), allowance, pieces);
    for (const auto& piece : pieces) out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    if (n == 0) break;
    wire.remove_prefix(n);
  }
  return out;
}

TEST(FrameSplitter, finds_payloads_however_the_bytes_are_cut) {
  const std::string wire = two_frames_and_a_round();
  for (const std::size_t chunk : {1, 7, 48, 64, 5000, 100000}) {
    FrameSplitter splitter(0);
    EXPECT_EQ(payload_of(splitter, wire, chunk, ~0ull), expected_payload()) << chunk;
    EXPECT_TRUE(splitter.between_frames());
    EXPECT_TRUE(splitter.round_ended());
    EXPECT_EQ(splitter.sequence(), 5u);
    EXPECT_EQ(splitter.frames(), 4u);
  }
}

TEST(FrameSplitter, gives_no_more_than_it_is_allowed) {
  FrameSplitter splitter(0);
  const std::string wire = two_frames_and_a_round();
  std::vector<FrameSplitter::Piece> pieces;
  const std::size_t n = splitter.take(std::as_bytes(std::span(wire)), 5000, pieces);
  EXPECT_EQ(n, sizeof(FrameHeader) + sizeof(pagewire::Run) + 5000);
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].size(), 5000u);
  EXPECT_FALSE(splitter.between_frames());
  EXPECT_EQ(splitter.take(std::as_bytes(std::span(wire)).subspan(n), 0, pieces), 0u);
}

TEST(FrameSplitter, refuses_frames_of_other_streams_and_old_sequences) {
  for (const FrameHeader& second :
       {FrameHeader{.kind = FrameKind::round, .sequence = 3, .stream = 1},
        FrameHeader{.kind = FrameKind::round, .sequence = 2}, FrameHeader{.kind = FrameKind::round, .sequence = 1},
        FrameHeader{.magic = 0, .kind = FrameKind::round, .sequence = 3}}) {
    std::string wire;
    append(wire, {.kind = FrameKind::round, .sequence = 2}, "", "");
    append(wire, second, "", "");
    FrameSplitter splitter(0);
    EXPECT_THROW(payload_of(splitter, wire, 1000, ~0ull), Error);
  }
}

TEST(FrameSplitter, refuses_a_length_that_is_a_lie) {
  std::string wire;
  append(wire, {.kind = FrameKind::file, .sequence = 1, .name_length = 4}, "a.im", std::string(max_payload + 1, 'x'));
  FrameSplitter splitter(0);
  EXPECT_THROW(payload_of(splitter, wire, 1000, ~0ull), Error);
}

}  // namespace
}  // namespace godwit::pageserver
