#include "common/pagewire/frame.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

#include <cstring>

namespace godwit::pagewire {
namespace {

FrameHeader pages_header() {
  return {.kind = FrameKind::pages,
          .runs = 2,
          .sequence = 7,
          .object = object_id(ObjectType::task, 42),
          .payload_length = 3 * page_size};
}
const std::vector<Run> two_runs{{0x1000, 1}, {0x5000, 2}};

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

void expect_bad(const FrameHeader& h) { EXPECT_THROW(parse_header(bytes_of(h)), Error); }

TEST(Frame, header_survives_a_round_trip) {
  const FrameHeader h = parse_header(bytes_of(pages_header()));
  EXPECT_EQ(h.sequence, 7u);
  EXPECT_EQ(object_number(h.object), 42u);
  EXPECT_EQ(frame_length(h), 48u + 32 + 3 * page_size);
}

TEST(Frame, refuses_what_no_frame_can_be) {
  FrameHeader h = pages_header();
  EXPECT_THROW(parse_header(bytes_of(h).first(47)), Error);
  expect_bad((h.magic = 1, h)), h = pages_header();
  expect_bad((h.kind = FrameKind{0}, h)), h = pages_header();
  expect_bad((h.kind = FrameKind{6}, h)), h = pages_header();
  expect_bad((h.compression = Compression{0}, h)), h = pages_header();
  expect_bad((h.sequence = 0, h)), h = pages_header();
  expect_bad((h.runs = 0, h)), h = pages_header();
  expect_bad((h.runs = 65, h)), h = pages_header();
  expect_bad((h.payload_length = max_payload + page_size, h)), h = pages_header();
  expect_bad((h.payload_length = 0xffffffff, h)), h = pages_header();
  expect_bad((h.payload_length = 100, h)), h = pages_header();
  expect_bad((h.name_length = 1, h)), h = pages_header();
  expect_bad((h.flags = 1, h)), h = pages_header();
  expect_bad((h.object = 0, h)), h = pages_header();
  expect_bad((h.kind = FrameKind::zero, h));
  expect_bad({.kind = FrameKind::file, .sequence = 1, .name_length = 0});
  expect_bad({.kind = FrameKind::file, .sequence = 1, .name_length = 256});
  expect_bad({.kind = FrameKind::round, .sequence = 1, .payload_length = 1});
}

TEST(Frame, refuses_runs_that_overlap_wrap_or_do_not_add_up) {
  FrameHeader h = pages_header();
  const auto parse = [&](std::vector<pagewire::Run> runs) { return parse_runs(h, std::as_bytes(std::span(runs))); };
  EXPECT_EQ(parse(two_runs).size(), 2u);
  EXPECT_THROW(parse({{0x1000, 1}}), Error);               // cut off
  EXPECT_THROW(parse({{0x1000, 1}, {0x5000, 1}}), Error);  // not the payload
  EXPECT_THROW(parse({{0x1001, 1}, {0x5000, 2}}), Error);  // not aligned
  EXPECT_THROW(parse({{0x5000, 2}, {0x1000, 1}}), Error);  // not in order
  EXPECT_THROW(parse({{0x4000, 2}, {0x5000, 1}}), Error);  // overlap
  EXPECT_THROW(parse({{0x1000, 0}, {0x5000, 3}}), Error);  // empty
  h.kind = FrameKind::zero, h.payload_length = 0;
  EXPECT_THROW(parse({{0x1000, std::uint64_t{1} << 52}, {0x2000, 1}}), Error);  // 2^52 pages are 2^64 bytes
  EXPECT_THROW(parse({{0x1000, 1}, {~std::uint64_t{0xfff}, 1}}), Error);
}

TEST(Frame, checksum_covers_everything_but_checksum_and_stream) {
  FrameHeader h = pages_header();
  const auto trailer = std::as_bytes(std::span(two_runs));
  std::vector<std::byte> payload(h.payload_length, std::byte{3});
  const std::uint64_t sum = checksum(1, h, trailer, payload);
  h.checksum = sum, h.stream = 9;
  EXPECT_EQ(checksum(1, h, trailer, payload), sum);
  EXPECT_NE(checksum(2, h, trailer, payload), sum);
  payload.back() = std::byte{4};
  EXPECT_NE(checksum(1, h, trailer, payload), sum);
  payload.back() = std::byte{3};
  h.round = 1;
  EXPECT_NE(checksum(1, h, trailer, payload), sum);
}

// The worked example of docs/page-protocol.md.
TEST(Frame, looks_on_the_wire_as_the_documentation_says) {
  FrameHeader h{.kind = FrameKind::pages,
                .runs = 1,
                .sequence = 1,
                .object = object_id(ObjectType::task, 7),
                .payload_length = page_size};
  const pagewire::Run run{0x7f0000001000, 1};
  const std::vector<std::byte> payload(page_size, std::byte{0x41});
  h.checksum = checksum(42, h, bytes_of(run), payload);
  EXPECT_EQ(h.checksum, 0xbc57a422ecec2831u);
  const auto bytes = bytes_of(h);
  EXPECT_EQ(std::to_integer<int>(bytes[0]), 0x31);
  EXPECT_EQ(std::to_integer<int>(bytes[16]), 0x01);
  EXPECT_EQ(std::to_integer<int>(bytes[17]), 0x07);
  EXPECT_EQ(std::to_integer<int>(bytes[29]), 0x10);
  EXPECT_EQ(std::to_integer<int>(bytes[40]), 0x31);
}

TEST(Manifest, lists_frames_and_where_their_payloads_lie) {
  std::string out;
  append_manifest(out, pages_header(), std::as_bytes(std::span(two_runs)), 4096);
  const std::string name = "core-42.img";
  const FrameHeader file{
      .kind = FrameKind::file, .sequence = 8, .payload_length = 100, .name_length = 11, .flags = last_part};
  append_manifest(out, file, std::as_bytes(std::span(name)), 12345);
  append_manifest(out, {.kind = FrameKind::round, .sequence = 9}, {}, 0);
  const std::vector<ManifestEntry> entries = parse_manifest(out);
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].runs[1].address, 0x5000u);
  EXPECT_EQ(entries[0].offset, 4096u);
  EXPECT_EQ(entries[1].name, name);
  EXPECT_EQ(entries[1].offset, 12345u);
  for (std::size_t cut : {std::size_t{1}, out.size() - 1, std::size_t{60}})
    EXPECT_THROW(parse_manifest(std::string_view(out).substr(0, cut)), Error) << cut;
}

TEST(Manifest, refuses_names_that_leave_the_directory) {
  for (const std::string name : {"../x", "a/b", ".hidden", "a b", "a\n"}) {
    std::string out;
    append_manifest(out,
                    {.kind = FrameKind::file, .sequence = 1, .name_length = static_cast<std::uint16_t>(name.size())},
                    std::as_bytes(std::span(name)), 0);
    EXPECT_THROW(parse_manifest(out), Error) << name;
  }
}

}  // namespace
}  // namespace godwit::pagewire
