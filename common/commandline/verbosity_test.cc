#include "common/commandline/verbosity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using testing::ElementsAre;
using Words = std::vector<std::string>;

std::string spelled(const Words& words) {
  std::string out;
  for (const std::string& w : spell_out_verbosity(words)) out += (out.empty() ? "" : " ") + w;
  return out;
}

TEST(Verbosity, is_criu_s) {
  EXPECT_EQ(usual_verbosity, 2);
  for (const auto& [words, level] : std::vector<std::pair<Words, int>>{{{"-v"}, 3},
                                                                       {{"-vv"}, 4},
                                                                       {{"-v", "-v"}, 4},
                                                                       {{"-vvvvvv"}, 4},
                                                                       {{"-v0"}, 0},
                                                                       {{"-v4"}, 4},
                                                                       {{"-v5"}, 4},
                                                                       {{"-v100"}, 4},
                                                                       {{"-v1", "-v"}, 2},
                                                                       {{"--verbosity"}, 3},
                                                                       {{"--verbosity=1"}, 1},
                                                                       {{"--verbosity", "1"}, 1}})
    EXPECT_EQ(spelled(words), "--verbosity=" + std::to_string(level)) << testing::PrintToString(words);
}

TEST(Verbosity, leaves_other_words_alone) {
  EXPECT_THAT(spell_out_verbosity({"dump", "-t", "1"}), ElementsAre("dump", "-t", "1"));
  EXPECT_THAT(spell_out_verbosity({"dump", "-v1", "-t", "1", "-v", "-D", "x"}),
              ElementsAre("dump", "-t", "1", "--verbosity=2", "-D", "x"));
  EXPECT_THAT(spell_out_verbosity({"dump", "--verbosity", "-D", "5"}), ElementsAre("dump", "--verbosity=3", "-D", "5"));
  EXPECT_EQ(spelled({"-", "-vx", "--verbosity=x", "--verbose"}), "- -vx --verbosity=x --verbose");
}

TEST(Verbosity, nothing_is_logged_at_zero) {
  EXPECT_EQ(level_of(0), log::Level::none);
  EXPECT_EQ(level_of(1), log::Level::error);
  EXPECT_EQ(level_of(2), log::Level::warn);
  EXPECT_EQ(level_of(3), log::Level::info);
  EXPECT_EQ(level_of(4), log::Level::debug);
}

}  // namespace
}  // namespace godwit
