// What `godwit` reads and writes: event streams, progress, reports.
#include "common/base/fd.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/evacuate.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/fleet_report.h"
#include "coordinator/cli/explanation.h"
#include "coordinator/cli/progress.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

namespace godwit::cli {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

TEST(Answers, that_no_coordinator_gives_are_a_breach_of_the_protocol) {
  const auto errc_of = [](unsigned status, const char* body) {
    try {
      body_of({.status = status, .body = body});
    } catch (const Error& e) {
      return e.errc();
    }
    return Errc{};
  };
  EXPECT_EQ(errc_of(200, "{}"), Errc{});
  EXPECT_EQ(errc_of(200, "<html>"), Errc::protocol);
  EXPECT_EQ(errc_of(502, "<html>"), Errc::protocol);
  EXPECT_EQ(errc_of(409, R"({"code": "busy", "message": "later"})"), Errc::busy);
  EXPECT_EQ(errc_of(409, R"({"code": "busy", "message": 7, "hint": [1]})"), Errc::busy);
  EXPECT_EQ(errc_of(409, R"({"code": 7})"), Errc::protocol);
  EXPECT_EQ(errc_of(409, "[]"), Errc::protocol);
}

TEST(EventStream, is_put_together_from_its_lines) {
  std::vector<ServerEvent> events;
  EventLines lines([&](const ServerEvent& e) { events.push_back(e); });
  for (const char* line : {": still here", "", "id: 7", "event: round", R"(data: {"number": 1})", "", "event: progress",
                           "data: no JSON", "", "data: {}", ""})
    lines.take(line);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].id, 7);
  EXPECT_EQ(events[0].kind, "round");
  EXPECT_EQ(events[0].body["number"], 1);
  EXPECT_EQ(events[1].id, 0);
}

TEST(ProgressText, redraws_one_line_on_a_terminal) {
  Progress progress(Progress::Style::terminal);
  const Progress::Time start{};
  EXPECT_THAT(progress.on_event("phase", {{"phase", "surveying"}}, start),
              HasSubstr("\r\x1b[Klooking at the workload"));
  progress.on_event("phase", {{"phase", "precopy"}}, start);
  progress.on_event("progress", {{"round", 0}, {"bytes", 0}, {"expected_bytes", 1u << 30}}, start);
  const std::string live =
      progress.on_event("progress", {{"round", 0}, {"bytes", 1u << 29}, {"expected_bytes", 1u << 30}}, start + 1s);
  EXPECT_THAT(live, HasSubstr("round 0: 512.0 MiB of 1.0 GiB (50 %)"));
  EXPECT_THAT(live, HasSubstr("512.0 MiB/s"));
  EXPECT_THAT(live, HasSubstr("ETA 0:01"));
  EXPECT_LE(live.size(), 79u + 4u);
  const std::string round = progress.on_event(
      "round", {{"number", 0}, {"bytes", 1u << 30}, {"seconds", 1.0}, {"dirty_bytes_after", 4096}}, start + 2s);
  EXPECT_EQ(round, "\r\x1b[Kround 0: 1.0 GiB in 1.00 s (1.0 GiB/s), 4.0 KiB dirty again\n");
}

TEST(ProgressText, does_not_count_into_the_rate_what_was_sent_before_the_watching_began) {
  Progress progress(Progress::Style::terminal);
  const Progress::Time start{};
  progress.on_event("phase", {{"phase", "precopy"}}, start);
  progress.on_event("progress", {{"round", 0}, {"bytes", 3u << 29}, {"expected_bytes", 1ull << 31}}, start);
  const std::string live =
      progress.on_event("progress", {{"round", 0}, {"bytes", 7u << 28}, {"expected_bytes", 1ull << 31}}, start + 1s);
  EXPECT_THAT(live, HasSubstr("1.8 GiB of 2.0 GiB (88 %)"));
  EXPECT_THAT(live, HasSubstr("256.0 MiB/s  ETA 0:01"));
}

TEST(ProgressText, has_room_for_the_predicted_downtime) {
  Progress progress(Progress::Style::terminal);
  const Progress::Time start{};
  progress.on_event("phase", {{"phase", "precopy"}}, start);
  progress.on_event("decision", {{"action", "another_round"}, {"predicted_downtime_ms", 1234.5}}, start);
  progress.on_event("progress", {{"round", 12}, {"bytes", 0}, {"expected_bytes", 1023u << 20}}, start);
  const std::string live = progress.on_event(
      "progress", {{"round", 12}, {"bytes", 1000u << 20}, {"expected_bytes", 1023u << 20}}, start + 1s);
  EXPECT_THAT(live, HasSubstr("round 12: 1000.0 MiB of 1023.0 MiB  1000.0 MiB/s  ETA 0:00  downtime ~1.23 s"));
}

TEST(ProgressText, prints_plain_lines_elsewhere) {
  Progress progress(Progress::Style::plain);
  std::string all;
  for (const auto& [kind, body] : std::vector<std::pair<std::string, json>>{
           {"phase", {{"phase", "surveying"}}},
           {"phase", {{"phase", "precopy"}}},
           {"progress", {{"round", 0}, {"bytes", 1}}},
           {"round", {{"number", 0}, {"bytes", 10}, {"seconds", 0.0}}},
           {"decision", {{"action", "freeze"}, {"predicted_downtime_ms", 12.0}}},
           {"over_budget", {{"bytes", 3u << 20}, {"most_bytes", 1u << 20}}},
           {"over_budget", {{"bytes", 1u << 20}, {"too_slow", true}, {"stopped_ms", 2600}}},
           {"throttle", {{"cpu_percent", 60}}},
           {"rate", {{"rate_limit", 1u << 20}}},
           {"rate", {{"rate_limit", 0}}},
           {"notice", {{"text", "an \x1b[31mescape"}}},
           {"outcome", json::object()}})
    all += progress.on_event(kind, body, {});
  EXPECT_THAT(all, Not(HasSubstr("\x1b")));
  EXPECT_THAT(all, HasSubstr("round 0: 10 B"));
  EXPECT_THAT(all, HasSubstr("predicted downtime 12.0 ms: freezing\n"));
  EXPECT_THAT(all, HasSubstr("the last difference is 3.0 MiB, 1.0 MiB would keep the budget: it runs on\n"));
  EXPECT_THAT(all, HasSubstr("the last difference, 1.0 MiB, has not been sent after 2.60 s: it runs on\n"));
  EXPECT_THAT(all, HasSubstr("no progress: the workload gets 60 % of its CPU time\n"));
  EXPECT_THAT(all, HasSubstr("rate limit 1.0 MiB/s\nno rate limit\n"));
  EXPECT_THAT(all, HasSubstr("note: an ?[31mescape\n"));
}

json example_report() {
  return {{"migration", "m1"},
          {"workload", "redis"},
          {"from", "a"},
          {"to", "b"},
          {"outcome", "done"},
          {"reason", nullptr},
          {"downtime_ms", 40.0},
          {"predicted_downtime_ms", 30.0},
          {"downtime_budget_ms", 300.0},
          {"downtime_steps_ms", {{"freeze", 30.0}, {"transit", 8.0}, {"unexplained", 2.0}}},
          {"downtime_steps_order", {"freeze", "transit", "unexplained"}},
          {"total_s", 3.5},
          {"gb_per_s", 0.9},
          {"bytes", 1u << 30},
          {"rounds",
           {{{"number", 0},
             {"pages", 262144},
             {"bytes", 1u << 30},
             {"seconds", 1.0},
             {"dirty_bytes_after", 20u << 20},
             {"final", false}},
            {{"number", 1},
             {"pages", 10},
             {"bytes", 40960},
             {"seconds", 0.001},
             {"dirty_bytes_after", 0},
             {"final", true}}}}};
}

TEST(ReportText, shows_rounds_and_the_downtime_by_step) {
  const std::string text = migration_report(example_report());
  EXPECT_THAT(text, HasSubstr("redis from a to b: done in 3.50 s (migration m1)"));
  EXPECT_THAT(text, HasSubstr("    0  262144   1.0 GiB    1.00 s   1.0 GiB/s     20.0 MiB  20.0 MiB/s\n"));
  EXPECT_THAT(text, HasSubstr("final"));
  EXPECT_THAT(text, HasSubstr("downtime 40.0 ms, predicted 30.0 ms, budget 300.0 ms"));
  EXPECT_THAT(text, HasSubstr("unexplained  2.00 ms    5 %"));
  EXPECT_THAT(text, HasSubstr("0.90 GB/s"));
}

TEST(ReportText, says_why_not) {
  const json report{{"migration", "m1"},
                    {"pid", 42},
                    {"from", "a"},
                    {"to", "b"},
                    {"outcome", "refused"},
                    {"total_s", 0.1},
                    {"reason", {{"code", "refused"}, {"message", "fd 7: a raw socket"}, {"hint", "close it"}}}};
  const std::string text = migration_report(report);
  EXPECT_THAT(text, HasSubstr("PID 42 from a to b: refused"));
  EXPECT_THAT(text, HasSubstr("reason: fd 7: a raw socket [refused]\nhint: close it\n"));
  EXPECT_THAT(text, Not(HasSubstr("downtime")));
}

TEST(ReportText, has_what_an_operator_should_know) {
  json report = example_report();
  report["notices"] = json::array({"it may be\nheard of too early"});
  EXPECT_THAT(migration_report(report), HasSubstr("(migration m1)\nnote: it may be?heard of too early\n"));
  EXPECT_EQ(json_report(report)["notices"].size(), 1u);
}

TEST(ReportText, says_how_far_it_is_while_it_is_under_way) {
  json report = example_report();
  report["outcome"] = nullptr;
  report["phase"] = "precopy";
  report["downtime_ms"] = nullptr;
  const std::string text = migration_report(report);
  EXPECT_THAT(text, HasSubstr("redis from a to b: under way, precopy (migration m1)"));
  EXPECT_THAT(text, HasSubstr("20.0 MiB/s\n"));
}

TEST(Watch, takes_the_only_migration_or_lists_those_to_choose_from) {
  json first = example_report(), second = example_report();
  first["phase"] = "precopy";
  second.update({{"migration", "m2"}, {"workload", ""}, {"pid", 42}, {"phase", "surveying"}});
  EXPECT_EQ(only_one(json::array({first})), "m1");
  try {
    only_one(json::array({first, second}));
    FAIL() << "chose one of two";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    EXPECT_THAT(e.message(), HasSubstr("m1 (redis from a to b, precopy); m2 (PID 42 from a to b, surveying)"));
  }
  EXPECT_THROW(only_one(json::array()), Error);
}

TEST(ReportJson, has_every_promised_member_and_steps_that_add_up) {
  const json report = json_report(example_report());
  for (const char* member : {"migration", "workload", "from", "to", "outcome", "reason", "notices", "downtime_ms",
                             "predicted_downtime_ms", "downtime_steps_ms", "total_s", "gb_per_s", "bytes", "rounds"})
    EXPECT_TRUE(report.contains(member)) << member;
  double sum = 0;
  for (const auto& [step, ms] : report["downtime_steps_ms"].items()) sum += ms.get<double>();
  EXPECT_DOUBLE_EQ(sum, report["downtime_ms"].get<double>());
  EXPECT_EQ(report["rounds"][0]["dirty_bytes_after"], 20u << 20);
}

TEST(Tables, stand_in_columns_and_survive_missing_members) {
  const std::string nodes = nodes_table(
      {{"nodes", {{{"name", "a"}, {"state", "up"}, {"workloads", 2}}, {{"name", "long-name"}, {"state", "lost"}}}}});
  EXPECT_THAT(nodes, HasSubstr("a          up             2"));
  EXPECT_THAT(nodes, HasSubstr("long-name  lost           0"));
  EXPECT_THAT(workloads_table(
                  {{"workloads", {{{"name", "w"}, {"state", "exited"}, {"exit_code", 3}, {"argv", {"a", "b\n"}}}}}}),
              HasSubstr("exited (3)"));
  EXPECT_THAT(history_table({{"migrations", {example_report()}}}), HasSubstr("40.0 ms"));
  EXPECT_NE(nodes_table(json::object()), "");
}

json example_evacuation() {
  return {{"node", "a"},
          {"state", "moving"},
          {"parallel", 2},
          {"cordoned", true},
          {"empty", nullptr},
          {"predicted_total_s", 3.5},
          {"total_s", 4.0},
          {"workloads",
           {{{"workload", "redis"},
             {"state", "waiting"},
             {"to", "b"},
             {"resident_bytes", 20u << 20},
             {"predicted", {{"bytes", 21u << 20}, {"total_s", 1.5}, {"downtime_ms", 40.0}}}},
            {{"workload", "cups"},
             {"state", "stays"},
             {"to", nullptr},
             {"reason", {{"code", "refused"}, {"message", "it fits nowhere: b: it is cordoned"}, {"hint", "look"}}}}}}};
}

TEST(Evacuation, is_shown_as_a_plan) {
  const std::string plan = evacuation_plan(example_evacuation());
  EXPECT_THAT(plan, HasSubstr("evacuating a: 2 workloads, 2 at once, predicted to take 3.50 s"));
  EXPECT_THAT(plan, HasSubstr("redis     b   20.0 MiB   40.0 ms    1.50 s"));
  EXPECT_THAT(plan, HasSubstr("cups: it fits nowhere: b: it is cordoned [refused]\n  hint: look"));
  EXPECT_NE(evacuation_plan(json::object()), "");
}

TEST(Evacuation, tells_each_change_once) {
  EvacuationProgress progress;
  json report = example_evacuation();
  report["state"] = "planning";
  EXPECT_EQ(progress.on_report(report), "");
  report["state"] = "moving";
  EXPECT_THAT(progress.on_report(report), HasSubstr("evacuating a"));
  EXPECT_EQ(progress.on_report(report), "");
  report["workloads"][0]["state"] = "moving";
  EXPECT_EQ(progress.on_report(report), "redis: moving to b\n");
  report["workloads"][0]["state"] = "moved";
  report["workloads"][0]["downtime_ms"] = 38.0;
  report["workloads"][0]["total_s"] = 1.25;
  EXPECT_EQ(progress.on_report(report), "redis: moved to b in 1.25 s, downtime 38.0 ms (1 of 2)\n");
  EXPECT_EQ(progress.on_report(report), "");
}

TEST(Evacuation, is_summed_up_with_what_could_not_move_and_why) {
  json report = example_evacuation();
  report["state"] = "ended";
  report["empty"] = false;
  report["workloads"][0]["state"] = "moved";
  report["workloads"][0]["downtime_ms"] = 38.0;
  const std::string summary = evacuation_summary(report);
  EXPECT_THAT(summary, HasSubstr("38.0 ms"));
  EXPECT_THAT(summary, HasSubstr("cups: it fits nowhere"));
  EXPECT_THAT(summary, HasSubstr("1 of 2 moved in 4.00 s; a is not empty"));
  EXPECT_THAT(summary, HasSubstr("a stays cordoned; `godwit uncordon a`"));
  EXPECT_EQ(exit_code_of_evacuation(report), exit_failed);
  report["empty"] = true;
  EXPECT_EQ(exit_code_of_evacuation(report), exit_done);
  report["workloads"][1]["state"] = "unknown";
  EXPECT_EQ(exit_code_of_evacuation(report), exit_unknown);
}

TEST(Advice, is_given_by_every_report_whose_reason_brings_no_hint) {
  const json reason{{"code", "no_space"}, {"message", "the spool is full"}, {"hint", ""}};
  json migration = example_report(), evacuation = example_evacuation();
  migration["outcome"] = "rolled_back";
  migration["reason"] = reason;
  EXPECT_THAT(migration_report(migration), HasSubstr("[no_space]\nhint: free some, or choose another node\n"));
  for (json& w : evacuation["workloads"]) w["reason"] = reason;
  const std::string told =
      "redis: the spool is full [no_space]\n  hint: free some, or choose another node\n"
      "cups: the spool is full [no_space]\n";
  EXPECT_THAT(evacuation_plan(evacuation), HasSubstr(told));
  evacuation["state"] = "ended";
  EXPECT_THAT(evacuation_summary(evacuation), HasSubstr(told));
}

TEST(Preview, is_shown_with_every_obstacle_and_the_prediction) {
  const json preview{
      {"workload", "redis"},
      {"from", "a"},
      {"to", "b"},
      {"would_move", false},
      {"downtime_budget_ms", 300.0},
      {"resident_bytes", 20u << 20},
      {"notices", {"a notice\n"}},
      {"obstacles",
       {{{"where", "source"}, {"code", "refused"}, {"message", "fd 7: a raw socket"}, {"hint", ""}},
        {{"where", "destination"}, {"code", "refused"}, {"message", "no /bin/x"}, {"hint", "copy it"}}}},
      {"predicted", {{"bytes", 21u << 20}, {"total_s", 1.5}, {"downtime_ms", 40.0}, {"basis", "the last 2"}}}};
  const std::string text = preview_report(preview);
  EXPECT_THAT(text, HasSubstr("redis from a to b: would be refused"));
  EXPECT_THAT(
      text,
      HasSubstr("source: fd 7: a raw socket [refused]\n    hint: read the sentence: it names every reason, with the "
                "numbers\n  destination: no /bin/x [refused]\n    hint: copy it"));
  EXPECT_THAT(text, HasSubstr("notice: a notice?"));
  EXPECT_THAT(text, HasSubstr("21.0 MiB sent in 1.50 s, downtime 40.0 ms of the 300.0 ms allowed (the last 2)"));
  EXPECT_NE(preview_report(json::object()), "");
}

TEST(Report, of_a_rehearsal_says_what_the_downtime_would_have_been) {
  json report = example_report();
  report["outcome"] = "rehearsed";
  const std::string text = migration_report(report);
  EXPECT_THAT(text, HasSubstr(": rehearsed in "));
  EXPECT_THAT(text, HasSubstr("downtime would have been 40.0 ms"));
  EXPECT_THAT(text, HasSubstr("Everything is as before"));
}

struct CodeRow {
  std::string meaning, advice;
  unsigned status = 0;
  bool operator==(const CodeRow&) const = default;
};
void PrintTo(const CodeRow& row, std::ostream* out) {
  *out << row.meaning << " | " << row.advice << " | " << row.status;
}

// The rows of the first table.
std::map<std::string, CodeRow> documented_codes() {
  std::map<std::string, CodeRow> found;
  std::istringstream lines(read_file(GODWIT_SOURCE_DIR "/docs/errors.md"));
  for (std::string line; std::getline(lines, line) && !line.starts_with("## ");) {
    if (!line.starts_with("| `")) continue;
    const std::size_t end = line.find('`', 3), meaning = end + 4, advice = line.find(" | ", meaning) + 3,
                      status = line.find(" | ", advice) + 3;
    found[line.substr(3, end - 3)] = {.meaning = line.substr(meaning, advice - 3 - meaning),
                                      .advice = line.substr(advice, status - 3 - advice),
                                      .status = static_cast<unsigned>(std::stoul(line.substr(status)))};
  }
  return found;
}

TEST(Documentation, explains_every_error_code_and_none_that_there_is_not) {
  std::map<std::string, CodeRow> codes;
  for (int n = 1; n <= static_cast<int>(Errc::internal); n++) {
    const auto code = static_cast<Errc>(n);
    const auto [meaning, advice] = explanation(code);
    codes[std::string(name(code))] = {std::string(meaning), std::string(advice), net::status_of(code)};
  }
  EXPECT_EQ(documented_codes(), codes);
  EXPECT_EQ(hint_or_advice(Errc::no_space, ""), "free some, or choose another node");
  EXPECT_EQ(hint_or_advice(Errc::no_space, "delete b"), "delete b");
  EXPECT_EQ(hint_of({{"code", "no_space"}, {"hint", ""}}), "free some, or choose another node");
  EXPECT_EQ(hint_of({{"code", "no_space"}, {"hint", "delete b"}}), "delete b");
  EXPECT_EQ(hint_of({{"code", "of_a_later_release"}}), "");
  EXPECT_EQ(hint_of(json::object()), "");
  for (const auto& [text, row] : codes) EXPECT_EQ(name(errc_from_name(text)), text);
}

TEST(Documentation, explains_every_exit_code_and_outcome) {
  const std::string text = read_file(GODWIT_SOURCE_DIR "/docs/errors.md");
  for (const ExitCode code : {exit_done, exit_failed, exit_usage, exit_refused, exit_unreachable, exit_unknown})
    EXPECT_THAT(text, HasSubstr(fmt::format("\n| {} | ", static_cast<int>(code))));
  const std::string outcomes = text.substr(text.find("## Outcomes of a migration"));
  for (const char* outcome : {"done", "rehearsed", "rolled_back", "refused", "unknown"})
    EXPECT_THAT(outcomes, HasSubstr(fmt::format("`{}`", outcome)));
}

TEST(ExitCodes, follow_the_outcome) {
  EXPECT_EQ(exit_code_of("done"), 0);
  EXPECT_EQ(exit_code_of("rolled_back"), 1);
  EXPECT_EQ(exit_code_of("refused"), 3);
  EXPECT_EQ(exit_code_of("unknown"), 5);
  EXPECT_EQ(exit_code_of("rehearsed"), 0);
  EXPECT_EQ(exit_code_of(Error(Errc::refused, "x")), 3);
  EXPECT_EQ(exit_code_of(Error(Errc::invalid_argument, "x")), 2);
  EXPECT_EQ(exit_code_of(Unreachable(Error(Errc::peer_lost, "x"))), 4);
}

}  // namespace
}  // namespace godwit::cli
