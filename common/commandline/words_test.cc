#include "common/commandline/words.h"

#include "common/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& command, const std::string& word) {
  try {
    refuse_word(command, word);
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    return e.message();
  }
}

TEST(Words, that_belong_to_other_commands_are_refused_with_their_names) {
  EXPECT_EQ(refusal("page-server", "--track-mem"),
            "--track-mem means nothing to godwit page-server: it is for dump and pre-dump");
  EXPECT_EQ(refusal("dump", "--daemon"), "--daemon means nothing to godwit dump: it is for page-server");
  EXPECT_EQ(refusal("dedup", "-t5"),
            "-t5 means nothing to godwit dedup: it is for dump, pre-dump, restore, kill and resume");
  EXPECT_EQ(refusal("check", "--port=9"),
            "--port=9 means nothing to godwit check: it is for dump, pre-dump and page-server");
}

TEST(Words, of_criu_and_of_nobody_are_told_from_them) {
  EXPECT_THAT(refusal("page-server", "--lazy-pages"), HasSubstr("CRIU has --lazy-pages, Godwit does not"));
  EXPECT_THAT(refusal("dump", "--ps-socket"), HasSubstr("CRIU has --ps-socket, Godwit does not"));
  EXPECT_THAT(refusal("check", "--no-track-mem"), HasSubstr("CRIU has --no-track-mem, Godwit does not"));
  EXPECT_EQ(refusal("page-server", "--nonsense"), "godwit page-server has no option --nonsense");
  EXPECT_EQ(refusal("page-server", "word"), "godwit page-server: what is 'word'?");
}

}  // namespace
}  // namespace godwit
