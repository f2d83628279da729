#include "coordinator/cli/commands.h"
#include "coordinator/cli/evacuate.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/migrate.h"
#include "coordinator/cli/options.h"
#include "coordinator/cli/user.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdlib.h>

namespace godwit::cli {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;
using testing::ElementsAre;

std::optional<Options> parsed(std::vector<const char*> words, int* exit_code = nullptr) {
  words.insert(words.begin(), "godwit");
  int code = -1;
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  auto options = parse(static_cast<int>(words.size()), words.data(), code);
  testing::internal::GetCapturedStdout();
  testing::internal::GetCapturedStderr();
  if (exit_code) *exit_code = code;
  return options;
}

TEST(CommandLine, takes_migrate_with_everything) {
  const auto options =
      parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--tcp-close", "--downtime", "80ms", "--spool", "64M",
              "--streams", "2", "--max-rounds", "5", "--on-no-progress", "force", "--json"});
  ASSERT_TRUE(options);
  EXPECT_TRUE(options->json);
  const auto& m = std::get<MigrateCommand>(options->command);
  EXPECT_EQ(m.workload, "redis");
  EXPECT_EQ(m.policy.downtime, 80ms);
  EXPECT_EQ(m.spool, 64u << 20);
  const json body = migration_request(m);
  EXPECT_EQ(body["workload"], "redis");
  EXPECT_EQ(body["downtime_ms"], 80.0);
  EXPECT_EQ(body["on_no_progress"], "force");
  EXPECT_FALSE(body.contains("pid"));
}

TEST(CommandLine, leaves_to_the_coordinator_what_is_not_given) {
  const auto options = parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--max-total-time", "2m"});
  ASSERT_TRUE(options);
  const json body = migration_request(std::get<MigrateCommand>(options->command));
  EXPECT_EQ(body["max_total_s"], 120.0);
  for (const char* member : {"downtime_ms", "max_rounds", "on_no_progress", "rate_limit"})
    EXPECT_FALSE(body.contains(member)) << member;
}

TEST(CommandLine, takes_evacuate_with_the_options_of_its_migrations) {
  const auto options = parsed({"--certs", "/c", "evacuate", "a", "--to", "b", "--to", "c", "--parallel", "3",
                               "--tcp-close", "--downtime", "80ms", "--rate-limit", "6M", "--dry-run"});
  ASSERT_TRUE(options);
  const auto& e = std::get<EvacuateCommand>(options->command);
  EXPECT_EQ(e.node, "a");
  EXPECT_THAT(e.to, ElementsAre("b", "c"));
  EXPECT_EQ(e.parallel, 3u);
  EXPECT_TRUE(e.dry_run);
  const json how = migration_options(e.options);
  EXPECT_EQ(how["downtime_ms"], 80.0);
  EXPECT_EQ(how["tcp_close"], true);
  EXPECT_EQ(how["rate_limit"], 6u << 20);
  for (const char* own : {"workload", "pid", "from", "to", "rehearse"}) EXPECT_FALSE(how.contains(own)) << own;
}

TEST(CommandLine, takes_a_rehearsal_and_a_dry_run) {
  EXPECT_FALSE(migration_request({.workload = "redis", .to = "b"}).contains("rehearse"));
  const auto options = parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--rehearse"});
  EXPECT_EQ(migration_request(std::get<MigrateCommand>(options->command))["rehearse"], true);
  EXPECT_TRUE(std::get<MigrateCommand>(parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--dry-run"})->command)
                  .dry_run);
  EXPECT_FALSE(std::get<CordonCommand>(parsed({"--certs", "/c", "uncordon", "a"})->command).on);
  EXPECT_TRUE(std::get<CordonCommand>(parsed({"--certs", "/c", "cordon", "a"})->command).on);
}

TEST(CommandLine, takes_a_number_for_a_pid) {
  const json body = migration_request({.workload = "4711", .from = "a", .to = "b"});
  EXPECT_EQ(body["pid"], 4711);
  EXPECT_FALSE(body.contains("workload"));
}

TEST(CommandLine, takes_users_by_number_and_by_name) {
  EXPECT_EQ(parse_user(""), User{});
  EXPECT_EQ(parse_user("12"), (User{.uid = 12, .gid = 12}));
  EXPECT_EQ(parse_user("12:34"), (User{.uid = 12, .gid = 34}));
  EXPECT_EQ(parse_user("root"), User{});
  for (const char* wrong : {"12:", "12:x", "12:34:", "4294967296", "nobody-of-this-name"})
    EXPECT_THROW(parse_user(wrong), Error) << wrong;
}

TEST(CommandLine, passes_on_what_stands_behind_two_dashes) {
  const auto options = parsed({"--certs", "/c", "run", "--name", "w", "--on", "a", "--env", "A=1", "--env", "B=2", "--",
                               "redis-server", "--save", "", "--port", "7000"});
  ASSERT_TRUE(options);
  const auto& run = std::get<RunCommand>(options->command);
  EXPECT_THAT(run.argv, ElementsAre("redis-server", "--save", "", "--port", "7000"));
  EXPECT_THAT(run.environment, ElementsAre("A=1", "B=2"));
}

TEST(CommandLine, simulates_without_certificates) {
  const auto options = parsed({"simulate", "--trace", "t.json", "--bandwidth", "100Mbit", "--bandwidth", "1GiB",
                               "--size", "2G", "--downtime", "1s", "--overhead", "10ms"});
  ASSERT_TRUE(options);
  const auto& s = std::get<SimulateCommand>(options->command);
  EXPECT_THAT(s.bandwidths, ElementsAre(12.5e6, double{1 << 30}));
  EXPECT_EQ(s.size, std::uint64_t{2} << 30);
  EXPECT_EQ(s.policy.downtime, 1s);
  EXPECT_EQ(s.overhead, 10ms);
  for (const char* bad : {"0", "fast", "-1Mbit", "Mbit", "1e99Gbit", "10 Mbit s"}) {
    int code = 0;
    EXPECT_FALSE(parsed({"simulate", "--trace", "t.json", "--bandwidth", bad}, &code)) << bad;
    EXPECT_EQ(code, exit_usage) << bad;
  }
  int code = 0;
  EXPECT_FALSE(parsed({"migrate", "redis", "--to", "b"}, &code)) << "the others need certificates";
}

TEST(CommandLine, takes_an_id_or_a_workload_to_watch_cancel_and_report) {
  EXPECT_EQ(std::get<WatchCommand>(parsed({"--certs", "/c", "watch"})->command).which, "");
  const auto watch = parsed({"--certs", "/c", "watch", "redis", "--no-progress", "--json"});
  EXPECT_EQ(std::get<WatchCommand>(watch->command).which, "redis");
  EXPECT_TRUE(std::get<WatchCommand>(watch->command).no_progress);
  EXPECT_EQ(std::get<CancelCommand>(parsed({"--certs", "/c", "cancel", "m1"})->command).which, "m1");
  EXPECT_EQ(std::get<HistoryCommand>(parsed({"--certs", "/c", "history", "m1"})->command).which, "m1");
  const auto resolve = parsed({"--certs", "/c", "resolve", "redis", "--destination-is-off"});
  EXPECT_EQ(std::get<ResolveCommand>(resolve->command).which, "redis");
  EXPECT_TRUE(std::get<ResolveCommand>(resolve->command).destination_is_off);
  EXPECT_FALSE(std::get<ResolveCommand>(parsed({"--certs", "/c", "resolve", "m1"})->command).destination_is_off);
  const auto go_on = parsed({"--certs", "/c", "resolve", "redis", "--go-on"});
  EXPECT_TRUE(std::get<ResolveCommand>(go_on->command).go_on);
  EXPECT_FALSE(std::get<ResolveCommand>(go_on->command).destination_is_off);
  // A variable that is not set, or a path, names no migration.
  for (const char* command : {"watch", "cancel", "history", "resolve"})
    for (const char* bad : {"", "a/b", "a?b", "a b"}) {
      int code = 0;
      EXPECT_FALSE(parsed({"--certs", "/c", command, bad}, &code)) << command << " '" << bad << "'";
      EXPECT_EQ(code, exit_usage);
    }
}

TEST(CommandLine, takes_the_steps_of_throttling) {
  const auto options = parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--throttle-steps", "70,30,5"});
  EXPECT_EQ(migration_request(std::get<MigrateCommand>(options->command))["throttle_steps"], json({70, 30, 5}));
  EXPECT_FALSE(parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--throttle-steps", "0"}));
}

TEST(CommandLine, takes_what_happens_after_a_loss) {
  const auto options = parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--if-lost", "hold"});
  EXPECT_EQ(migration_request(std::get<MigrateCommand>(options->command))["if_lost"], "hold");
  const auto unsaid = parsed({"--certs", "/c", "migrate", "redis", "--to", "b"});
  EXPECT_FALSE(migration_request(std::get<MigrateCommand>(unsaid->command)).contains("if_lost"));
}

TEST(CommandLine, takes_a_probe) {
  const auto options = parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--dry-run", "--probe", "1500ms"});
  EXPECT_EQ(migration_request(std::get<MigrateCommand>(options->command))["probe_s"], 1.5);
  EXPECT_FALSE(parsed({"--certs", "/c", "migrate", "redis", "--to", "b", "--probe", "long"}));
}

TEST(CommandLine, takes_a_rate_for_a_migration) {
  const auto options = parsed({"--certs", "/c", "rate", "redis", "50M"});
  ASSERT_TRUE(options);
  EXPECT_EQ(std::get<RateCommand>(options->command).which, "redis");
  EXPECT_EQ(std::get<RateCommand>(options->command).rate_limit, 50u << 20);
  EXPECT_EQ(std::get<RateCommand>(parsed({"--certs", "/c", "rate", "redis", "0"})->command).rate_limit, 0u);
  EXPECT_FALSE(std::get<RateCommand>(options->command).node);
  EXPECT_TRUE(std::get<RateCommand>(parsed({"--certs", "/c", "rate", "--node", "a", "1M"})->command).node);
}

TEST(CommandLine, ends_with_2_when_it_makes_no_sense) {
  const std::vector<std::vector<const char*>> bad{
      {},
      {"--certs", "/c", "fly"},
      {"--certs", "/c", "migrate", "redis"},
      {"--certs", "/c", "migrate", "redis", "--to", "b", "--downtime", "soon"},
      {"--certs", "/c", "migrate", "redis", "--to", "b", "--streams", "0"},
      {"--certs", "/c", "migrate", "redis", "--to", "b", "--on-no-progress", "pray"},
      {"--certs", "/c", "run", "--name", "w", "--on", "a"},
      {"--certs", "/c", "cancel"},
      {"--certs", "/c", "resolve", "--destination-is-off"},
      {"--certs", "/c", "resolve", "redis", "--destination-is-off", "--go-on"},
      {"--certs", "/c", "migrate", "redis", "--to", "b", "--if-lost", "pray"},
      {"--certs", "/c", "rate", "redis"},
      {"--certs", "/c", "rate", "redis", "fast"},
      {"--certs", "/c", "cordon"},
      {"--certs", "/c", "uncordon", "a/b"},
      {"--certs", "/c", "evacuate"},
      {"--certs", "/c", "evacuate", "a", "--parallel", "0"},
      {"--certs", "/c", "evacuate", "a", "--to", ""},
      {"--certs", "/c", "evacuate", "a", "--rehearse"},
      {"--certs", "/c", "migrate", "redis", "--to", "b", "--dry-run", "--rehearse"},
      {"nodes"}};
  ::unsetenv("GODWIT_CERTS");
  for (const auto& words : bad) {
    int code = 0;
    EXPECT_FALSE(parsed(words, &code));
    EXPECT_EQ(code, exit_usage);
  }
}

TEST(CommandLine, looks_into_the_environment) {
  ::setenv("GODWIT_CERTS", "/from/env", 1);
  ::setenv("GODWIT_COORDINATOR", "host:1", 1);
  const auto options = parsed({"ps"});
  ::unsetenv("GODWIT_CERTS");
  ::unsetenv("GODWIT_COORDINATOR");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->certs, "/from/env");
  EXPECT_EQ(options->coordinator, "host:1");
}

TEST(CommandLine, reads_durations) {
  EXPECT_EQ(parse_duration("300"), 300ms);
  EXPECT_EQ(parse_duration("1.5s"), 1500ms);
  EXPECT_EQ(parse_duration("2m"), 2min);
  for (const char* bad : {"", "s", "-1s", "1 s", "1d", "nan", "inf", "1e30h"})
    EXPECT_THROW(parse_duration(bad), Error) << bad;
}

}  // namespace
}  // namespace godwit::cli
