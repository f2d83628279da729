#include "coordinator/cli/word_order.h"

#include <gtest/gtest.h>

#include <sstream>

namespace godwit::cli {
namespace {

std::string ordered(const std::string& line) {
  std::istringstream in(line);
  const std::vector<std::string> words = command_first({std::istream_iterator<std::string>(in), {}});
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : " ") + w;
  return out;
}

TEST(WordOrder, puts_the_command_in_front_of_its_options) {
  for (const auto& [line, expected] : std::vector<std::pair<std::string, std::string>>{
           {"dump -t 5 -D x", "dump -t 5 -D x"},
           {"-v4 dump -t 5", "dump --verbosity=4 -t 5"},
           {"--verbosity 3 -v dump -t 5", "dump --verbosity=4 -t 5"},
           {"-t 5 -D dump -R dump", "dump -t 5 -D dump -R"},
           {"-t5 --images-dir=restore --leave-running pre-dump -v",
            "pre-dump -t5 --images-dir=restore --leave-running "
            "--verbosity=3"},
           {"-RD check dump -t 5", "dump -RD check -t 5"},
           {"-RDcheck dump -t 5", "dump -RDcheck -t 5"},
           {"--prev-images-dir dump --action-script restore -W check -o kill dedup",
            "dedup --prev-images-dir dump "
            "--action-script restore -W check "
            "-o kill"},
           {"--port 1 page-server --address dump", "page-server --port 1 --address dump"},
           {"--ps-socket dump page-server", "page-server --ps-socket dump"},
           {"-D x cpuinfo dump", "cpuinfo dump -D x"},
           {"cpuinfo -D dump check", "cpuinfo check -D dump"},
           {"-v image -v show check", "image show --verbosity=4 check"},
           {"cpuinfo --help", "cpuinfo --help"},
           {"--help dump", "dump --help"},
           {"-t 5 kill", "kill -t 5"},
           {"-t 5 lazy-pages", "lazy-pages -t 5"},
       })
    EXPECT_EQ(ordered(line), expected) << line;
}

TEST(WordOrder, options_that_only_criu_has_may_have_a_value) {
  EXPECT_EQ(ordered("--root /x -t 5 dump"), "dump --root /x -t 5");
  EXPECT_EQ(ordered("-r /x dump -t 5"), "dump -r /x -t 5");
  EXPECT_EQ(ordered("--lazy-pages -t 5 dump"), "dump --lazy-pages -t 5");
  EXPECT_EQ(ordered("--lazy-pages dump -t 5"), "dump --lazy-pages -t 5");
  EXPECT_EQ(ordered("--root=/x dump"), "dump --root=/x");
}

TEST(WordOrder, leaves_other_commands_alone) {
  for (const char* line : {"", "-v4", "--version", "ps -v", "--json migrate dump --to restore", "--coordinator dump ps",
                           "--certs check ps", "run --name dump --on b -- restore -v4", "-- dump -t 5", "nonsense dump",
                           "- dump", "--nonsense x dump"})
    EXPECT_EQ(ordered(line), line);
}

}  // namespace
}  // namespace godwit::cli
