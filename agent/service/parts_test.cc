#include "agent/service/facts.h"
#include "agent/service/laps.h"
#include "agent/service/migrations.h"
#include "agent/service/preflight.h"
#include "agent/service/steps.h"
#include "agent/service/token.h"
#include "common/net/test_loop.h"

#include <gmock/gmock.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::service {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// An answer's steps are all of its time, whatever the engine says of its own part.
TEST(Laps, leave_nothing_between_them) {
  const std::uint64_t begun = monotonic_ns();
  Laps::List steps;
  Laps laps(steps);
  laps.lap("first");
  ::usleep(2000);
  google::protobuf::RepeatedPtrField<engine::Step> told;
  told.Add()->set_name("engine");
  told.rbegin()->set_nanoseconds(1'000'000);
  laps.lap(told, "rest");
  const std::uint64_t took = monotonic_ns() - begun;
  ASSERT_EQ(steps.size(), 3);
  EXPECT_EQ(steps[1].name(), "engine");
  EXPECT_EQ(steps[1].nanoseconds(), 1'000'000u);
  EXPECT_GE(steps[2].nanoseconds(), 900'000u);
  EXPECT_LE(steps[0].nanoseconds() + steps[1].nanoseconds() + steps[2].nanoseconds(), took);

  told.rbegin()->set_nanoseconds(~0ull / 2);  // more than there was
  laps.lap(told, "rest");
  EXPECT_LT(steps[4].nanoseconds(), 1'000'000'000u);
}

TEST(Facts, are_read_from_this_machine) {
  const NodeFacts facts = read_facts();
  EXPECT_EQ(facts.boot_id.size(), 36u);
  EXPECT_GT(facts.memory_total, facts.memory_available / 2);
  EXPECT_EQ(facts.xfeatures & 3, 3u);  // x87 and SSE
  EXPECT_THAT(facts.cpu_flags, testing::Contains("sse2"));
}

TEST(Facts, are_parsed) {
  EXPECT_EQ(meminfo_bytes("MemTotal:  10 kB\nMemAvailable:    7 kB\n", "MemAvailable"), 7168u);
  EXPECT_THAT(flags_in("processor\t: 0\nflags\t\t: fpu vme\nbugs\t\t: x\n"), ElementsAre("fpu", "vme"));
}

TEST(Preflight, knows_what_lies_below_a_shared_path) {
  EXPECT_TRUE(is_below("/srv/shared/a", {"/srv/shared"}));
  EXPECT_TRUE(is_below("/srv/shared", {"/srv/shared"}));
  EXPECT_FALSE(is_below("/srv/sharedness/a", {"/srv/shared"}));
  EXPECT_TRUE(is_below("/anything", {"/"}));
  EXPECT_FALSE(is_below("/anything", {""}));
}

TEST(Preflight, names_register_state_that_the_cpu_lacks) {
  const NodeFacts here{.xfeatures = 0xe7};
  engine::Surveyed survey;
  survey.set_xfeatures(0x7);
  EXPECT_THAT(check_cpu(survey, here), IsEmpty());
  survey.set_xfeatures(0x20007);
  EXPECT_THAT(check_cpu(survey, here), ElementsAre(HasSubstr("0x20000")));
}

TEST(Preflight, names_instructions_that_the_cpu_lacks) {
  engine::Surveyed survey;
  for (const char* flag : {"sse2", "bmi2", "sha_ni", "pti"}) survey.add_cpu_flags(flag);
  EXPECT_THAT(check_cpu(survey, {.cpu_flags = {"sse2", "bmi2", "sha_ni", "avx2"}}), IsEmpty());
  EXPECT_THAT(check_cpu(survey, {.cpu_flags = {"sse2"}}), ElementsAre(HasSubstr("its CPU lacks bmi2, sha_ni")));
}

// One that this machine does not have, in two policies.
TEST(Preflight, names_numa_nodes_that_are_not_here) {
  const NodeFacts here = read_facts();
  if (here.numa_nodes.empty()) GTEST_SKIP() << "this kernel has no NUMA";
  engine::Surveyed survey;
  survey.add_numa_policies(fmt::format("bind:{}", *here.numa_nodes.begin()));
  survey.add_numa_policies("bind=static:1000");  // of which nodes the program knows
  EXPECT_THAT(check_numa(survey, here), IsEmpty());
  survey.add_numa_policies("prefer:1000");
  survey.add_numa_policies("prefer:1000");
  survey.add_numa_policies("nearby:0");
  EXPECT_THAT(check_numa(survey, here),
              ElementsAre(HasSubstr("NUMA node 1000, which a memory policy names (prefer:1000), is not here"),
                          HasSubstr("of this kind (nearby:0)")));
}

TEST(Preflight, names_numa_policies_where_the_kernel_has_none) {
  engine::Surveyed survey;
  survey.add_numa_policies("local");
  EXPECT_THAT(check_numa(survey, {}), ElementsAre(HasSubstr("has no NUMA memory policies")));
}

TEST(Preflight, names_who_holds_a_pid) {
  engine::Surveyed survey;
  survey.add_tasks()->set_comm("redis");
  survey.mutable_tasks(0)->add_threads(::getpid());
  EXPECT_THAT(check_pids(survey),
              ElementsAre(HasSubstr(fmt::format("PID {} of redis is taken here (agent", ::getpid()))));
}

TEST(Preflight, names_a_port_that_is_taken) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  check(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  check(::listen(listener.get(), 1), "listen");
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length);
  engine::Surveyed survey;
  survey.add_listening(fmt::format("tcp 127.0.0.1:{}", ntohs(address.sin_port)));
  EXPECT_THAT(check_ports(survey), ElementsAre(HasSubstr("Address already in use")));
  listener.reset();
  EXPECT_THAT(check_ports(survey), IsEmpty());
}

TEST(Preflight, names_a_socket_whose_name_both_nodes_share) {
  engine::Surveyed survey;
  survey.add_bound()->set_path("/run/of-another-node.sock");
  survey.add_bound()->set_path("/srv/shared/redis.sock");
  EXPECT_THAT(check_socket_names(survey, {"/srv/shared"}), ElementsAre(HasSubstr("/srv/shared/redis.sock")));
  EXPECT_THAT(check_socket_names(survey, {}), IsEmpty());
  // The same file, though nobody said so; not one of that name that was left behind.
  struct stat st{};
  check(::stat("/proc/self/exe", &st), "stat");
  engine::BoundName& name = *survey.add_bound();
  name.set_path(read_link("/proc/self/exe"));
  name.set_inode(st.st_ino);
  EXPECT_THAT(check_socket_names(survey, {}), IsEmpty());
  name.set_changed_ns(st.st_ctim.tv_sec * 1'000'000'000 + st.st_ctim.tv_nsec);
  EXPECT_THAT(check_socket_names(survey, {}), ElementsAre(HasSubstr(name.path())));
}

TEST(Preflight, names_a_locked_file_that_both_nodes_share) {
  engine::Surveyed survey;
  for (const char* path : {"/var/lib/other/lock", "/srv/shared/lock", "/srv/shared/lock"})
    survey.add_locked()->set_path(path);
  EXPECT_THAT(check_locks(survey, {"/srv/shared"}), ElementsAre(HasSubstr("/srv/shared/lock")));
  EXPECT_THAT(check_locks(survey, {}), IsEmpty());
}

TEST(Preflight, leaves_unix_sockets_out_of_the_ports) {
  engine::Surveyed survey;
  survey.add_listening("unix /run/redis.sock");
  EXPECT_THAT(check_ports(survey), IsEmpty());
}

TEST(Token, fits_its_hash_only) {
  const TokenBytes token = random_token();
  EXPECT_TRUE(is_token_of(text_of(token), sha256(text_of(token))));
  EXPECT_FALSE(is_token_of(text_of(random_token()), sha256(text_of(token))));
  EXPECT_FALSE(is_token_of("", sha256("")));
}

TEST(Ids, that_could_leave_their_directory_are_refused) {
  api::MigrationId id;
  id.set_epoch(1);
  for (const char* bad : {"", "../x", "a/b", "a.b"}) {
    id.set_migration(bad);
    EXPECT_THROW(check_id(id), Error) << bad;
  }
  id.set_migration("20261120-214620-b18b11");
  EXPECT_NO_THROW(check_id(id));
}

class StepsTest : public testing::Test {
 protected:
  net::awaitable<api::Envelope> work() {
    runs++;
    co_await net::sleep_for(std::chrono::milliseconds(10));
    if (runs == failing_run) fail(Errc::busy, "not now");
    api::Envelope answer;
    answer.mutable_round_done()->set_number(static_cast<std::uint32_t>(runs));
    co_return answer;
  }
  net::awaitable<void> ask(bool once, std::vector<std::uint32_t>& answers) {
    Steps::Work work = [this] { return this->work(); };
    const api::Envelope answer =
        once ? co_await steps.once("x", std::move(work)) : co_await steps.joined("x", std::move(work));
    answers.push_back(answer.round_done().number());
  }
  boost::asio::io_context io;
  Steps steps{io.get_executor()};
  int runs = 0, failing_run = 0;
  std::vector<std::uint32_t> answers;
};

TEST_F(StepsTest, are_done_once_and_answered_alike) {
  net::spawn(io.get_executor(), "first", ask(true, answers));
  net::run_to_end(io, ask(true, answers));
  net::run_to_end(io, ask(true, answers));
  EXPECT_THAT(answers, ElementsAre(1, 1, 1));
}

TEST_F(StepsTest, that_failed_fail_alike) {
  failing_run = 1;
  EXPECT_THROW(net::run_to_end(io, ask(true, answers)), Error);
  EXPECT_THROW(net::run_to_end(io, ask(true, answers)), Error);
  EXPECT_EQ(runs, 1);
}

TEST_F(StepsTest, that_are_joined_are_shared_while_they_run_and_then_forgotten) {
  net::spawn(io.get_executor(), "first", ask(false, answers));
  net::run_to_end(io, ask(false, answers));
  net::run_to_end(io, ask(false, answers));
  EXPECT_THAT(answers, ElementsAre(1, 1, 2));
}

}  // namespace
}  // namespace godwit::service
