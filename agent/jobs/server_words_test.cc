#include "agent/jobs/server_words.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

namespace godwit::jobs {
namespace {

using pageserver::FromServer;

void expect_no_words(const std::string& bytes) {
  try {
    parse_server_words(bytes);
    ADD_FAILURE() << "taken for words of a page server";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::protocol);
  }
}

TEST(ServerWords, are_read) {
  FromServer stored;
  stored.mutable_stored()->set_migration("m");
  stored.mutable_stored()->set_stream(15);
  EXPECT_EQ(parse_server_words(stored.SerializeAsString()).stored().stream(), 15u);
  FromServer listening;
  listening.mutable_listening()->set_address("[::1]:7441");
  EXPECT_EQ(parse_server_words(listening.SerializeAsString()).listening().address(), "[::1]:7441");
}

TEST(ServerWords, that_no_page_server_says_are_refused) {
  expect_no_words("");
  expect_no_words("\xff\xff\xff");
  FromServer beyond;
  beyond.mutable_stored()->set_stream(16);
  expect_no_words(beyond.SerializeAsString());
  FromServer nowhere;
  nowhere.mutable_listening()->set_address("nowhere");
  expect_no_words(nowhere.SerializeAsString());
}

}  // namespace
}  // namespace godwit::jobs
