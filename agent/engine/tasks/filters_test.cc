#include "agent/engine/tasks/filters.h"

#include "common/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

namespace godwit::engine::tasks::filters {
namespace {

using ::testing::HasSubstr;

std::string program(std::initializer_list<sock_filter> code) {
  return {reinterpret_cast<const char*>(code.begin()), code.size() * sizeof(sock_filter)};
}
std::string returns(std::uint32_t action) { return program({{BPF_RET | BPF_K, 0, 0, action}}); }

struct Row {
  std::uint32_t action;
  int above = -1;
  std::uint32_t flags = 0;
};

image::ImageSet set_of(std::initializer_list<Row> rows) {
  image::SeccompEntry entry;
  for (const Row& row : rows) {
    image::SeccompFilter& filter = *entry.add_seccomp_filters();
    filter.set_filter(returns(row.action));
    filter.set_flags(row.flags);
    if (row.above >= 0) filter.set_prev(static_cast<std::uint32_t>(row.above));
  }
  image::ImageSet set;
  set.put(image::Kind::seccomp, 0, entry);
  return set;
}

image::ThreadCoreEntry thread_with(std::uint32_t filter) {
  image::ThreadCoreEntry thread;
  thread.set_seccomp_mode(image::SECCOMP_FILTER);
  thread.set_seccomp_filter(filter);
  return thread;
}

std::string complaint(auto action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::image_corrupt) << error.what();
    return error.message();
  }
  return "none";
}

TEST(Filters, that_may_ask_a_supervisor_are_refused) {
  for (const std::uint32_t action : {SECCOMP_RET_ALLOW, SECCOMP_RET_LOG, SECCOMP_RET_TRACE, SECCOMP_RET_ERRNO | 1,
                                     SECCOMP_RET_TRAP, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD})
    EXPECT_EQ(refuse(returns(action)), std::nullopt) << action;
  EXPECT_THAT(refuse(returns(SECCOMP_RET_USER_NOTIF | 5)).value_or(""), HasSubstr("asks a supervisor"));
  EXPECT_THAT(refuse(program({{BPF_LD | BPF_IMM, 0, 0, SECCOMP_RET_ALLOW}, {BPF_RET | BPF_A, 0, 0, 0}})).value_or(""),
              HasSubstr("computes its answer"));
  EXPECT_TRUE(Stored(set_of({{SECCOMP_RET_ALLOW}, {SECCOMP_RET_USER_NOTIF, 0}})).refusal());
  EXPECT_TRUE(Stored(set_of({{SECCOMP_RET_ALLOW, -1, SECCOMP_FILTER_FLAG_NEW_LISTENER}})).refusal());
  EXPECT_FALSE(Stored(set_of({{SECCOMP_RET_ALLOW, -1, SECCOMP_FILTER_FLAG_LOG}})).refusal());
}

TEST(Filters, are_named_from_the_oldest_one_on) {
  // 3 on top of 2 on top of 1; 2 on top of 1; 1, which logs.
  const Stored stored(set_of({{3}, {2, 0}, {1, 1}, {2}, {1, 3}, {1, -1, SECCOMP_FILTER_FLAG_LOG}}));
  const auto chain = [&](std::uint32_t oldest) { return stored.chain_of(thread_with(oldest), {}); };
  EXPECT_EQ(chain(2), (Chain{2, 1, 0}));
  EXPECT_EQ(chain(4), (Chain{2, 1}));  // begins like the other one
  EXPECT_EQ(chain(5), (Chain{5}));
  EXPECT_TRUE(stored.chain_of({}, thread_with(2)).empty());
}

TEST(Filters, that_CRIU_has_for_all_threads_are_those_of_each) {
  const Stored stored(set_of({{2, -1, SECCOMP_FILTER_FLAG_TSYNC}, {1, 0, SECCOMP_FILTER_FLAG_TSYNC}}));
  EXPECT_EQ(stored.chain_of({}, thread_with(1)), (Chain{1, 0}));
  EXPECT_EQ(stored.chain_of(thread_with(0), thread_with(1)), (Chain{0}));
  EXPECT_TRUE(stored.chain_of({}, {}).empty());
  EXPECT_FALSE(stored.refusal());
  image::ThreadCoreEntry strict;
  strict.set_seccomp_mode(image::SECCOMP_STRICT);
  EXPECT_TRUE(stored.chain_of(strict, thread_with(1)).empty());
}

TEST(Filters, that_no_thread_can_have_are_an_error) {
  EXPECT_THAT(complaint([] { Stored(set_of({{1, 1}, {2, 0}})).chain_of(thread_with(0), {}); }),
              HasSubstr("below too many"));
  EXPECT_THAT(complaint([] { Stored(set_of({{1, 1}})); }), HasSubstr("which is not there"));
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{9}, (BPF_MAXINSNS + 1) * sizeof(sock_filter)}) {
    image::SeccompEntry entry;
    entry.add_seccomp_filters()->set_filter(std::string(bytes, '\0'));
    image::ImageSet set;
    set.put(image::Kind::seccomp, 0, entry);
    EXPECT_THAT(complaint([&] { Stored{set}; }), HasSubstr(fmt::format("filter 0 has {} bytes", bytes)));
  }
}

TEST(Filters, belong_to_threads) {
  // 1 on top of 2; 3, which is below 1, too.
  const Stored stored(set_of({{1}, {2, 0}, {3, 0}}));
  const auto lost_when_named = [&](std::vector<std::uint32_t> oldest) {
    return complaint([&] { stored.require_owners(oldest); });
  };
  EXPECT_EQ(lost_when_named({1, 2, 1}), "none");
  EXPECT_THAT(lost_when_named({1}), HasSubstr("seccomp.img: filter 2 belongs to no thread"));
  EXPECT_THAT(lost_when_named({}), HasSubstr("filter 0 belongs to no thread"));
  // A loop that nobody is in.
  EXPECT_THAT(complaint([] { Stored(set_of({{1}, {2, 2}, {3, 1}})).require_owners(std::vector{0u}); }),
              HasSubstr("filter 1 belongs to no thread"));
}

TEST(Filters, of_a_thread_are_there_and_go_with_its_mode) {
  const Stored stored(set_of({{1}}));
  EXPECT_THAT(complaint([&] { stored.chain_of(thread_with(1), {}); }), HasSubstr("filter 1 is not there"));
  image::ThreadCoreEntry thread = thread_with(0);
  thread.clear_seccomp_filter();
  EXPECT_THAT(complaint([&] { stored.chain_of(thread, {}); }), HasSubstr("without filters"));
  thread = thread_with(0);
  thread.set_seccomp_mode(image::SECCOMP_STRICT);
  EXPECT_THAT(complaint([&] { stored.chain_of(thread, {}); }), HasSubstr("with filters"));
}

}  // namespace
}  // namespace godwit::engine::tasks::filters
