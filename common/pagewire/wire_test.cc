#include "common/pagewire/wire.h"

#include <gtest/gtest.h>

#include <cstring>

namespace godwit::pagewire {
namespace {

const Token token{1, 2, 3};

ParsedHello parse(const Hello& hello) { return parse_hello(std::as_bytes(std::span<const Hello, 1>(&hello, 1))); }

TEST(Hello, survives_a_round_trip) {
  const ParsedHello h = parse(make_hello("m-1", token, 1, 2));
  EXPECT_EQ(h.reason, Reason::none);
  EXPECT_EQ(h.migration, "m-1");
  EXPECT_EQ(h.token, token);
  EXPECT_EQ(h.stream, 1u);
  EXPECT_EQ(h.streams, 2u);
}

TEST(Hello, takes_a_name_of_full_length) {
  const std::string name(max_migration_name, 'x');
  EXPECT_EQ(parse(make_hello(name, token, 0, 1)).migration, name);
}

TEST(Hello, is_refused_with_the_reason) {
  Hello h = make_hello("m", token, 0, 1);
  const auto with = [&](auto change) {
    Hello changed = h;
    change(changed);
    return parse(changed).reason;
  };
  EXPECT_EQ(with([](Hello& x) { x.magic = 0; }), Reason::protocol);
  EXPECT_EQ(with([](Hello& x) { x.version = 2; }), Reason::version);
  EXPECT_EQ(with([](Hello& x) { x.page_size = 16384; }), Reason::machine);
  EXPECT_EQ(with([](Hello& x) { x.architecture = Architecture{2}; }), Reason::machine);
  EXPECT_EQ(with([](Hello& x) { x.stream = 1; }), Reason::protocol);
  EXPECT_EQ(with([](Hello& x) { x.streams = 0; }), Reason::protocol);
  EXPECT_EQ(with([](Hello& x) { x.streams = 17; }), Reason::protocol);
  EXPECT_EQ(with([](Hello& x) { x.options = 1; }), Reason::protocol);
  EXPECT_EQ(with([](Hello& x) { x.migration[0] = '/'; }), Reason::protocol);
  EXPECT_EQ(with([](Hello& x) { x.migration[0] = '\0'; }), Reason::protocol);
  EXPECT_EQ(with([](Hello& x) { x.migration[5] = 'x'; }), Reason::protocol);
}

TEST(Hello, is_not_made_from_nonsense) {
  EXPECT_THROW(make_hello("", token, 0, 1), Error);
  EXPECT_THROW(make_hello("a/b", token, 0, 1), Error);
  EXPECT_THROW(make_hello("m", std::span(token).first(31), 0, 1), Error);
  EXPECT_THROW(make_hello("m", token, 1, 1), Error);
}

TEST(Answer, refuses_unknown_kinds) {
  Answer a{.kind = AnswerKind::stored, .sequence = 7};
  const auto parse = [&] { return parse_answer(std::as_bytes(std::span<const Answer, 1>(&a, 1))); };
  EXPECT_EQ(parse().sequence, 7u);
  a.kind = AnswerKind{0};
  EXPECT_THROW(parse(), Error);
  a.kind = AnswerKind{5};
  EXPECT_THROW(parse(), Error);
}

}  // namespace
}  // namespace godwit::pagewire
