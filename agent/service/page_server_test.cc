// The page server as its agent sees it: what it refuses, and that it comes back.
#include "agent/service/test_migration.h"

#include <sys/resource.h>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class PageServerTest : public MigrationTest {
 protected:
  jobs::PageServer& pages() { return *b.agent->context().pages; }
};

TEST_F(PageServerTest, says_at_once_why_it_refuses_a_session) {
  const auto begin = Clock::now();
  jobs::PageSession session{.migration = "wide", .spool_limit = 64u << 20, .peer = "a", .streams = 17};
  EXPECT_THAT(error_of([&] {
                pair.run(b, pages().open(std::move(session), open_file(b.options.state, O_RDONLY | O_DIRECTORY)));
              }),
              HasSubstr("17 streams"));
  EXPECT_LT(Clock::now() - begin, 5s);
}

TEST_F(PageServerTest, is_started_again_when_descriptors_were_short) {
  const pid_t before = pages().pid();
  rlimit usual{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit few{.rlim_cur = 4, .rlim_max = usual.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  ::kill(before, SIGKILL);
  const auto end = Clock::now() + 1500ms;
  pair.turn_until([&] { return Clock::now() > end; });
  ::setrlimit(RLIMIT_NOFILE, &usual);
  EXPECT_TRUE(pair.turn_until([&] { return pages().pid() != before; }));
}

}  // namespace
}  // namespace godwit::service
