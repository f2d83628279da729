#include "common/pagewire/criu.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

#include <cstring>

namespace godwit::pagewire::criu {
namespace {

constexpr std::array both = {HeaderSize::until_4_1, HeaderSize::since_4_2};
constexpr ObjectId task_12 = object_id(ObjectType::task, 12);

std::vector<std::byte> from_hex(std::string_view text) {
  std::vector<std::byte> bytes;
  std::string digits;
  for (const char c : text) {
    if (c == ' ') continue;
    digits += c;
    if (digits.size() < 2) continue;
    bytes.push_back(static_cast<std::byte>(std::stoi(digits, nullptr, 16)));
    digits.clear();
  }
  return bytes;
}

Errc refused(HeaderSize size, Header h, ObjectId object) {
  h.object = object;
  try {
    decode(size, encode(size, h).span());
  } catch (const Error& e) {
    return e.errc();
  }
  return Errc::internal;
}

TEST(CriuHeader, is_laid_out_as_criu_lays_it_out) {
  const Header run{
      .command = Command::add, .flags = run_present | run_lazy, .pages = 3, .address = 0x10000, .object = task_12};
  const auto long_form = from_hex("06000600 00000000 0300000000000000 0000010000000000 010c000000000000");
  const auto short_form = from_hex("06000600 03000000 0000010000000000 010c000000000000");
  EXPECT_TRUE(std::ranges::equal(encode(HeaderSize::since_4_2, run).span(), long_form));
  EXPECT_TRUE(std::ranges::equal(encode(HeaderSize::until_4_1, run).span(), short_form));
  EXPECT_EQ(decode(HeaderSize::since_4_2, long_form), run);
  EXPECT_EQ(decode(HeaderSize::until_4_1, short_form), run);
  EXPECT_EQ(run.payload_bytes(), 3 * page_size);
}

TEST(CriuHeader, padding_means_nothing) {
  auto bytes = from_hex("04000000 deadbeef 0000000000000000 0000000000000000 010c000000000000");
  EXPECT_EQ(decode(HeaderSize::since_4_2, bytes), (Header{.command = Command::open2, .object = task_12}));
  EXPECT_EQ(header_size_of(std::span(bytes).first<smallest_header>()), HeaderSize::since_4_2);
}

TEST(CriuHeader, the_first_one_tells_which_form_it_has) {
  for (const HeaderSize size : both)
    for (const Command command : {Command::open, Command::open2, Command::parent})
      for (const ObjectType type : {ObjectType::task, ObjectType::shmem}) {
        const EncodedHeader h = encode(size, {.command = command, .object = object_id(type, 1)});
        EXPECT_EQ(header_size_of(std::span(h.bytes).first<smallest_header>()), size);
      }
}

TEST(CriuHeader, legacy_commands_and_types_are_understood) {
  for (const HeaderSize size : both) {
    EncodedHeader h = encode(size, {.command = Command::add, .pages = 2, .address = 4096, .object = 7 << 8 | 28});
    h.bytes[0] = std::byte{1};
    EXPECT_EQ(decode(size, h.span()), (Header{.command = Command::add,
                                              .flags = run_present,
                                              .pages = 2,
                                              .address = 4096,
                                              .object = object_id(ObjectType::shmem, 7)}));
    h.bytes[0] = std::byte{2};
    EXPECT_EQ(decode(size, h.span()).flags, run_parent);
    EXPECT_EQ(decode(size, h.span()).payload_bytes(), 0u);
    for (const std::uint8_t type : {1, 10, 11, 16, 17}) {
      const Header open{.command = Command::open2, .object = 12u << 8 | type};
      EXPECT_EQ(decode(size, encode(size, open).span()).object, task_12) << int{type};
    }
  }
}

TEST(CriuHeader, what_cannot_be_is_refused) {
  const Header run{.command = Command::add, .flags = run_present, .pages = 1, .address = 4096};
  for (const HeaderSize size : both) {
    EXPECT_EQ(refused(size, run, 0), Errc::protocol);
    EXPECT_EQ(refused(size, run, 1), Errc::protocol) << "PID 0";
    EXPECT_EQ(refused(size, run, ObjectId{1} << 40 | 1), Errc::protocol) << "no PID is that large";
    EXPECT_EQ(refused(size, run, 12 << 8 | 3), Errc::protocol) << "an unknown type";
    Header bad = run;
    bad.address = 5;
    EXPECT_EQ(refused(size, bad, task_12), Errc::protocol);
    bad.address = ~0ull << 12;
    bad.pages = 2;
    EXPECT_EQ(refused(size, bad, task_12), Errc::protocol) << "past the end of all addresses";
    bad = run;
    bad.pages = 0;
    EXPECT_EQ(refused(size, bad, task_12), Errc::protocol);
    for (const std::uint16_t flags : {0, run_parent | run_present, 8}) {
      bad = run;
      bad.flags = flags;
      EXPECT_EQ(refused(size, bad, task_12), Errc::protocol) << flags;
    }
    bad = run;
    bad.command = static_cast<Command>(99);
    EXPECT_EQ(refused(size, bad, task_12), Errc::protocol);
  }
  Header huge = run;
  huge.pages = 1ull << 52;  // times 4096 is 0
  EXPECT_EQ(refused(HeaderSize::since_4_2, huge, task_12), Errc::protocol);
  huge.pages = 1ull << 51;  // larger than a file
  EXPECT_EQ(refused(HeaderSize::since_4_2, huge, task_12), Errc::protocol);
}

TEST(CriuHeader, the_short_form_says_what_it_cannot_hold) {
  const Header run{.command = Command::add, .flags = run_parent, .pages = 1ull << 32, .object = task_12};
  EXPECT_THROW(encode(HeaderSize::until_4_1, run), Error);
  EXPECT_EQ(decode(HeaderSize::since_4_2, encode(HeaderSize::since_4_2, run).span()), run);
  EXPECT_EQ(parse_header_size("24"), HeaderSize::until_4_1);
  EXPECT_THROW(parse_header_size("28"), Error);
}

}  // namespace
}  // namespace godwit::pagewire::criu
