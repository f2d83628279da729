// An evacuation whose coordinator ends in the midst: the next life of it, with the journal as it was then and the nodes
// as they were, brings it to its end.
#include "coordinator/testing/full_journal.h"
#include "coordinator/testing/node_to_empty.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using Env = api::Envelope;

// What there is when a coordinator has ended.
struct Moment {
  std::unique_ptr<FullJournal> journal = std::make_unique<FullJournal>();
  FakeAgent::Left a, b, third;
};

// One life of a coordinator, with nodes a, b and c.
class Life {
 public:
  explicit Life(std::vector<std::string> workloads) : Life(Moment{}) {
    for (const std::string& name : workloads) c.a.workloads.push_back(running_workload(name));
    return_third();
  }
  // After another one. Its third agent is still away.
  explicit Life(Moment m)
      : journal(std::move(m.journal)),
        c(limits_of_plans(std::chrono::seconds(3)), journal->path()),
        third(c.io.get_executor(), "c", c.daemon.agents_address(), tls_of("agent/c")) {
    c.a.take_over(m.a);
    c.b.take_over(m.b);
    third.take_over(m.third);
    c.a.peer = nullptr;  // it would take the record of another migration for an answer
    c.request({.target = "/v1/workloads"});
  }
  void return_third() {
    third.start();
    c.until([this] { return third.registered(); });
    c.request({.target = "/v1/workloads"});
  }
  // If it ended now.
  Moment left() const {
    Moment m{.a = c.a.left(), .b = c.b.left(), .third = third.left()};
    for (const char* part : {"", "-wal"}) std::filesystem::copy_file(journal->path() + part, m.journal->path() + part);
    return m;
  }
  void wait(Clock::duration time) {
    const Clock::time_point later = Clock::now() + time;
    c.until([&] { return Clock::now() > later; });
  }
  void resume() {
    c.daemon.driver.resume();
    c.daemon.evacuations.resume();
  }

  json post(const std::string& target, const std::string& body = "") {
    const net::HttpResponse r = c.request({.method = "POST", .target = target, .body = body});
    status = r.status;
    return json::parse(r.body, nullptr, false);
  }
  json report() { return json::parse(c.request({.target = "/v1/nodes/a/evacuation"}).body); }
  json finish() {
    c.until([this] { return report()["state"] == "ended"; }, std::chrono::seconds(30));
    return report();
  }
  json run_to_its_end() {
    resume();
    return_third();
    return finish();
  }
  // Until the first round of the n-th migration is asked for, which hangs.
  void evacuate_until_round_of(std::ptrdiff_t n, const std::string& body = "{}") {
    c.a.on_request = [this, n](Env::BodyCase) {
      if (std::ranges::count(c.a.asked, Env::kConnect) == n) c.a.always[Env::kRound] = Fault::hang_before;
    };
    post("/v1/nodes/a/evacuate", body);
    EXPECT_EQ(status, 202u);
    c.until([&] { return c.a.always.contains(Env::kRound) && c.a.asked.back() == Env::kRound; });
  }
  std::vector<Migration> migrations_of(const std::string& name) const { return c.store.migrations(20, name); }

  std::unique_ptr<FullJournal> journal;
  Cluster c;
  FakeAgent third;
  unsigned status = 0;
};

std::vector<std::string> lines(const json& report) {
  std::vector<std::string> found;
  for (const json& w : report["workloads"])
    found.push_back(w["workload"].get<std::string>() + " " + w["state"].get<std::string>());
  return found;
}

// Where each runs: "one b", ...
std::vector<std::string> places(const Life& life) {
  std::vector<std::string> found;
  for (const FakeAgent* agent : {&life.c.a, &life.c.b, &life.third})
    for (const api::WorkloadInfo& w : agent->workloads)
      found.push_back(w.name() + " " + agent->node + (w.state() == "running" ? "" : " " + w.state()));
  return found;
}

std::string phases_of(const Store& store) {
  std::string phases;
  for (const Migration& m : store.migrations(20)) phases += fmt::format("{} {}; ", m.id, name(m.phase));
  return phases;
}

// Whenever something of it is in the journal that was not there before.
std::vector<Moment> moments_of_an_evacuation(std::vector<std::string>* said) {
  Life life({"one", "two"});
  SQLite::Database look(life.journal->path(), SQLite::OPEN_READONLY);
  std::vector<Moment> moments;
  int version = 0;
  life.post("/v1/nodes/a/evacuate", "{}");
  while (life.report()["state"] != "ended") {
    life.c.io.run_one_for(std::chrono::milliseconds(10));
    const int now = look.execAndGet("PRAGMA data_version").getInt();
    std::string phases = phases_of(life.c.store);
    if (std::exchange(version, now) == now || (!said->empty() && said->back() == phases)) continue;
    moments.push_back(life.left());
    said->push_back(std::move(phases));
  }
  moments.push_back(life.left());
  said->push_back("ended");
  return moments;
}

TEST(Resumed, after_an_end_at_any_moment_moves_everything_once) {
  std::vector<std::string> said;
  std::vector<Moment> moments = moments_of_an_evacuation(&said);
  EXPECT_GT(moments.size(), 15u);
  for (std::size_t i = 0; i < moments.size(); i++) {
    SCOPED_TRACE(said[i]);
    Life next(std::move(moments[i]));
    const json r = next.run_to_its_end();
    EXPECT_THAT(lines(r), UnorderedElementsAre("one moved", "two moved"));
    EXPECT_EQ(r["empty"], true);
    EXPECT_EQ(r["cordoned"], true);
    for (const char* name : {"one", "two"}) {
      EXPECT_THAT(places(next), testing::Contains(HasSubstr(name)).Times(1));
      const std::vector<Migration> tried = next.migrations_of(name);
      EXPECT_LE(tried.size(), 2u);
      for (const Migration& m : tried)
        EXPECT_EQ(m.outcome, &m == &tried.front() ? Outcome::done : Outcome::rolled_back) << m.id;
    }
    EXPECT_TRUE(next.c.a.workloads.empty());
  }
}

TEST(Resumed, keeps_to_what_it_was_asked_for) {
  Life first({"one", "two"});
  first.evacuate_until_round_of(2, R"({"to": ["c"], "options": {"rate_limit": 500000000, "downtime_ms": 400}})");
  Life next(first.left());
  EXPECT_EQ(next.c.store.evacuations().at(0).by, "ann");
  next.resume();
  EXPECT_EQ(next.post("/v1/nodes/a/evacuate", "{}")["code"], "busy");
  next.wait(std::chrono::seconds(1));  // c is late
  next.return_third();
  const json r = next.finish();
  EXPECT_THAT(places(next), UnorderedElementsAre("one c", "two c"));
  for (const json& w : r["workloads"]) {
    const Migration m = next.c.store.migration(w["migration"]).value();
    EXPECT_EQ(m.spec.rate_limit, 500'000'000u);
    EXPECT_EQ(m.spec.policy.downtime, std::chrono::milliseconds(400));
  }
  EXPECT_EQ(next.post("/v1/nodes/a/evacuation/cancel")["code"], "not_found") << "it is over";
}

TEST(Resumed, moves_nothing_after_a_cancel) {
  Life first({"one", "two"});
  first.evacuate_until_round_of(1);
  first.c.daemon.evacuations.cancel("a", "bob");  // nothing else is done before the end
  Life next(first.left());
  const json r = next.run_to_its_end();
  EXPECT_EQ(r["cancelled_by"], "bob");
  EXPECT_EQ(r["empty"], false);
  for (const json& w : r["workloads"]) EXPECT_EQ(w["reason"]["code"], "cancelled") << w;
  EXPECT_THAT(places(next), UnorderedElementsAre("one a", "two a"));
  EXPECT_EQ(next.c.store.migrations(10).size(), 1u) << "none began";
}

TEST(Resumed, can_be_cancelled) {
  Life first({"one"});
  first.evacuate_until_round_of(1);
  Life next(first.left());
  next.resume();
  next.post("/v1/nodes/a/evacuation/cancel");
  EXPECT_EQ(next.status, 202u);
  EXPECT_EQ(next.finish()["cancelled_by"], "ann");
  EXPECT_THAT(places(next), ElementsAre("one a"));
}

TEST(Resumed, goes_on_after_an_orderly_end_of_its_coordinator) {
  Life first({"one", "two"});
  first.evacuate_until_round_of(1);
  net::run_to_end(first.c.io, first.c.daemon.driver.stop(std::chrono::seconds(5)));
  first.wait(std::chrono::milliseconds(300));
  EXPECT_EQ(first.c.store.migrations(10).size(), 1u) << "none begins any more";
  Life next(first.left());
  EXPECT_EQ(next.run_to_its_end()["empty"], true);
}

TEST(Resumed, does_not_go_where_it_was_turned_away_before) {
  Life first({"one"});
  first.c.b.memory_available *= 2;  // so that it is asked first
  first.c.b.once[Env::kPrepare] = Fault::refuse;
  first.c.b.refusal = Errc::refused;
  first.c.request({.target = "/v1/workloads"});
  first.evacuate_until_round_of(1);
  ASSERT_EQ(first.migrations_of("one").size(), 2u);
  Life next(first.left());
  next.c.b.memory_available *= 2;
  EXPECT_EQ(next.run_to_its_end()["empty"], true);
  EXPECT_THAT(places(next), ElementsAre("one c"));
  EXPECT_EQ(std::ranges::count(next.c.b.asked, Env::kPrepare), 0);
}

// The source was armed, nobody committed, and the two agents have undone it by themselves: nothing says why.
TEST(Resumed, tries_again_what_the_agents_have_undone_meanwhile) {
  Life first({"one"});
  first.c.b.once[Env::kCommit] = Fault::hang_before;
  first.post("/v1/nodes/a/evacuate", R"({"to": ["b"]})");
  first.c.until([&] { return std::ranges::count(first.c.b.asked, Env::kCommit) == 1; });
  Moment moment = first.left();
  moment.a.source = api::SOURCE_THAWED;
  moment.a.workloads[0].set_state("running");
  moment.b.destination = api::DESTINATION_REFUSED;
  Life next(std::move(moment));
  EXPECT_EQ(next.run_to_its_end()["empty"], true);
  EXPECT_THAT(places(next), ElementsAre("one b"));
  EXPECT_FALSE(next.migrations_of("one").back().reason);
}

// Somebody else had begun to move it, and has thought better of it.
TEST(Resumed, leaves_what_an_operator_wanted_to_stay) {
  Life first({"one"});
  first.c.a.always[Env::kRound] = Fault::hang_before;
  MigrationSpec spec;
  spec.workload = "one";
  spec.destination = "b";
  const std::string id = first.c.daemon.driver.start(spec);
  first.post("/v1/nodes/a/evacuate", "{}");
  first.c.until([&] { return first.report()["state"] == "moving"; });
  first.c.daemon.driver.cancel(id, "bob");
  first.c.until([&] { return !first.c.daemon.driver.find(id); });
  Life next(first.left());
  const json r = next.run_to_its_end();
  EXPECT_THAT(lines(r), ElementsAre("one failed"));
  EXPECT_EQ(r["workloads"][0]["migration"], id);
  EXPECT_THAT(places(next), ElementsAre("one a"));
}

TEST(Resumed, does_without_a_node_that_stays_away) {
  Life first({"one"});
  first.evacuate_until_round_of(1, R"({"to": ["c"]})");
  Life next(first.left());
  next.resume();
  const json r = next.finish();
  EXPECT_THAT(lines(r), ElementsAre("one stays"));
  EXPECT_THAT(r["workloads"][0]["reason"]["message"].get<std::string>(), HasSubstr("it fits nowhere"));
  EXPECT_THAT(places(next), ElementsAre("one a"));
}

TEST(Resumed, guesses_nothing_of_a_node_that_stays_away_itself) {
  Life first({"one", "two"});
  first.evacuate_until_round_of(1);
  Life next(first.left());
  next.c.a.stop();
  next.c.until([&] { return !next.c.daemon.registry.node("a").up; });
  const json r = next.run_to_its_end();
  EXPECT_THAT(lines(r), UnorderedElementsAre(testing::EndsWith("unknown"), testing::EndsWith("stays")));
  EXPECT_THAT(r.dump(), HasSubstr("node 'a' is not connected"));
  EXPECT_EQ(r["empty"], false);
}

TEST(Resumed, is_none_that_has_ended_or_cannot_be_read) {
  Life first({"one"});
  first.post("/v1/nodes/a/evacuate", "{}");
  const json before = first.finish();
  first.c.store.add_evacuation("b", "ann", {{"parallel", "many"}});
  Life next(first.left());
  next.resume();
  EXPECT_EQ(next.report(), before);
  EXPECT_EQ(json::parse(next.c.request({.target = "/v1/nodes/b/evacuation"}).body)["code"], "not_found");
  next.c.daemon.registry.uncordon("b");
  next.post("/v1/nodes/b/evacuate", R"({"to": ["c"]})");
  EXPECT_EQ(next.status, 404u) << "c is away";
  next.return_third();
  next.post("/v1/nodes/b/evacuate", R"({"to": ["c"]})");
  EXPECT_EQ(next.status, 202u);
}

// On a full disk.

TEST(EvacuationOnAFullDisk, does_not_begin) {
  Life life({"one"});
  life.journal->refuse("INSERT ON evacuations");
  EXPECT_EQ(life.post("/v1/nodes/a/evacuate", "{}")["code"], "internal");
  EXPECT_TRUE(life.c.store.cordons().empty());
  EXPECT_FALSE(life.c.daemon.registry.node("a").cordon);
  EXPECT_EQ(life.report()["code"], "not_found");
  life.journal->make_room();
  life.post("/v1/nodes/a/evacuate", "{}");
  EXPECT_EQ(life.finish()["empty"], true);
}

TEST(EvacuationOnAFullDisk, begins_no_migration_that_would_not_be_known_as_its_own) {
  Life life({"one"});
  life.journal->refuse("INSERT ON moves");
  life.post("/v1/nodes/a/evacuate", "{}");
  const json r = life.finish();
  EXPECT_THAT(lines(r), ElementsAre("one failed"));
  EXPECT_EQ(r["workloads"][0]["reason"]["code"], "internal");
  EXPECT_THAT(life.c.store.migrations(10), IsEmpty());
  EXPECT_THAT(life.c.store.unfinished(), IsEmpty());
}

TEST(EvacuationOnAFullDisk, has_not_ended_before_its_report_is_kept) {
  Life life({"one"});
  life.journal->refuse("UPDATE OF report ON evacuations");
  life.post("/v1/nodes/a/evacuate", "{}");
  life.c.until([&] { return life.c.b.runs("one") || life.third.runs("one"); });
  life.wait(std::chrono::milliseconds(500));
  EXPECT_EQ(life.report()["state"], "moving");
  life.journal->make_room();
  EXPECT_EQ(life.finish()["empty"], true);
  EXPECT_TRUE(life.c.store.evacuations().at(0).report);
}

TEST(EvacuationOnAFullDisk, is_cancelled_but_not_for_a_later_life_of_the_coordinator) {
  Life life({"one", "two"});
  life.evacuate_until_round_of(1);
  life.journal->refuse("UPDATE OF cancelled_by ON evacuations");
  const json said = life.post("/v1/nodes/a/evacuation/cancel");
  EXPECT_EQ(said["code"], "internal");
  EXPECT_THAT(said["message"].get<std::string>(), HasSubstr("cancelled, but not kept"));
  life.journal->make_room();
  life.post("/v1/nodes/a/evacuation/cancel");
  EXPECT_EQ(life.status, 202u);
  EXPECT_EQ(life.c.store.evacuations().at(0).cancelled_by, "ann");
  EXPECT_EQ(life.finish()["empty"], false);
}

}  // namespace
}  // namespace godwit::coordinator
