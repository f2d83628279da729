#include "deploy/demo.d/client/locator.h"
#include "deploy/demo.d/client/resp.h"
#include "deploy/demo.d/client/write_log.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace godwit::demo {
namespace {

TEST(Values, are_recognised_and_depend_on_everything) {
  const Values values(7, 100);
  const Write write{.key = 5, .version = 9};
  EXPECT_EQ(values.recognise(values.make(write)), write);
  EXPECT_NE(values.make(write), values.make({.key = 5, .version = 10}));
  EXPECT_NE(values.make(write), Values(8, 100).make(write));
}

TEST(Values, with_one_changed_byte_are_not_recognised) {
  const Values values(7, 100);
  for (std::size_t at : {0u, 8u, 16u, 99u}) {
    std::string value = values.make({.key = 5, .version = 9});
    value[at] = static_cast<char>(value[at] ^ 1);
    EXPECT_EQ(values.recognise(value), std::nullopt) << at;
  }
  EXPECT_EQ(values.recognise("short"), std::nullopt);
}

TEST(Resp, reads_replies_that_arrive_in_pieces) {
  const std::string bytes = "+OK\r\n$5\r\nab\r\nc\r\n:12\r\n$-1\r\n-ERR no\r\n";
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    std::vector<std::string> texts;
    std::size_t at = 0;
    while (auto reply = parse_reply(std::string_view(bytes).substr(0, cut), at)) texts.push_back(reply->text);
    while (auto reply = parse_reply(bytes, at)) texts.push_back(reply->text);
    EXPECT_EQ(texts, (std::vector<std::string>{"OK", "ab\r\nc", "12", "", "ERR no"})) << cut;
  }
}

TEST(Resp, refuses_lengths_that_no_redis_sends) {
  for (const char* bytes : {"$-2\r\n", "$99999999999\r\n", "$x\r\n", "*1\r\n", "\r\n"}) {
    std::size_t at = 0;
    EXPECT_THROW(parse_reply(bytes, at), Error) << bytes;
  }
}

TEST(Expectation, allows_the_last_acknowledged_write_and_unknown_ones_after_it) {
  const Expectation expected(3, {{.version = 1, .key = 0, .outcome = Outcome::acknowledged},
                                 {.version = 2, .key = 0, .outcome = Outcome::unknown},
                                 {.version = 3, .key = 1, .outcome = Outcome::unknown},
                                 {.version = 4, .key = 1, .outcome = Outcome::acknowledged}});
  EXPECT_TRUE(expected.allows({.key = 0, .version = 1}));
  EXPECT_TRUE(expected.allows({.key = 0, .version = 2}));
  EXPECT_FALSE(expected.allows({.key = 0, .version = 0})) << "an acknowledged write was undone";
  EXPECT_TRUE(expected.allows({.key = 1, .version = 4}));
  EXPECT_FALSE(expected.allows({.key = 1, .version = 3})) << "an older write came back";
  EXPECT_TRUE(expected.allows({.key = 2, .version = 0}));
  EXPECT_FALSE(expected.allows({.key = 2, .version = 2})) << "a write of another key";
}

TEST(WriteLog, comes_back_as_it_was_written) {
  std::string path = testing::TempDir() + "godwit-log-XXXXXX";
  const UniqueFd file(check(::mkstemp(path.data()), "make {}", path));
  {
    LogWriter log(path);
    for (std::uint32_t i = 0; i < 5000; ++i) log.append({i, i + 1, i % 7 ? Outcome::acknowledged : Outcome::unknown});
  }
  const auto records = read_log(path);
  ASSERT_EQ(records.size(), 5000u);
  EXPECT_EQ(records[4999].version, 4999u);
  EXPECT_EQ(records[4999].key, 5000u);
  EXPECT_EQ(records[7].outcome, Outcome::unknown);
  write_file(path, "half a record");
  EXPECT_THROW(read_log(path), Error);
  ::unlink(path.c_str());
}

TEST(Locator, finds_the_node_in_what_ps_prints) {
  const char* ps = R"([{"name":"other","node":"h9"}, {"name":"redis","node":"h1","state":"frozen"},
                       {"name":"redis","node":"h2","state":"running"}])";
  EXPECT_EQ(node_of(ps, "redis"), "h2");
  EXPECT_EQ(node_of(R"({"workloads":[{"name":"redis","node":"h1"}]})", "redis"), "h1");
  EXPECT_EQ(node_of(ps, "postgres"), std::nullopt);
  EXPECT_EQ(node_of("not JSON", "redis"), std::nullopt);
}

}  // namespace
}  // namespace godwit::demo
