// A journal that has no room: whatever cannot be written leaves nothing half done, and nobody is lost for it.
#include "coordinator/testing/cluster.h"
#include "coordinator/testing/full_journal.h"
#include "coordinator/testing/in_doubt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using testing::HasSubstr;
using Env = api::Envelope;

net::awaitable<void> look_at(AgentService& agents, std::string node) { co_await agents.refresh(node); }

net::awaitable<void> post(std::shared_ptr<net::Channel> channel, api::Envelope notice) {
  co_await channel->post(std::move(notice));
}

class FullDisk : public testing::Test {
 protected:
  FullJournal disk;
  Cluster c{short_limits(), disk.path()};

  std::string why_not_started() {
    try {
      c.daemon.driver.start(c.to_b());
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::internal);
      return e.message();
    }
    return "it began";
  }
  std::vector<std::string> placements() const {
    std::vector<std::string> found;
    for (const Placement& p : c.store.placements()) found.push_back(p.workload + " " + p.node + " " + p.state);
    return found;
  }
  void look_at_both() {
    for (const char* node : {"a", "b"}) net::run_to_end(c.io, look_at(c.daemon.agents, node));
  }
};

TEST_F(FullDisk, keeps_no_migration_from_its_end_because_of_where_workloads_are) {
  disk.refuse_placements();
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_EQ(c.store.events(m.id, 0).back().kind, "outcome");
  EXPECT_EQ(c.daemon.registry.find("redis").node, "b") << "people are told what is so";
  EXPECT_THAT(placements(), testing::ElementsAre("redis a running"));
  disk.make_room();
  look_at_both();
  EXPECT_THAT(placements(), testing::ElementsAre("redis b running"));
}

TEST_F(FullDisk, lets_agents_come_and_tell_what_they_have) {
  const auto before = c.a.channel();
  disk.refuse_placements();
  api::Envelope notice;
  *notice.mutable_workload_exited()->mutable_workload() = c.a.workloads[0];
  c.a.workloads[0].set_state("exited");
  net::run_to_end(c.io, post(c.a.channel(), notice));
  c.until([&] { return c.daemon.registry.workloads().at(0).state == "exited"; });
  FakeAgent third(c.io.get_executor(), "c", c.daemon.agents_address(), tls_of("agent/c"));
  third.workloads.push_back(c.a.workloads[0]);
  third.workloads[0].set_name("third");
  third.start();
  c.until([&] { return third.registered(); });
  EXPECT_TRUE(c.daemon.registry.node("c").up);
  EXPECT_TRUE(before->is_open());
  EXPECT_THAT(placements(), testing::ElementsAre("redis a running"));
  disk.make_room();
  look_at_both();
  EXPECT_THAT(placements(), testing::ElementsAre("redis a exited", "third c exited"));
}

TEST_F(FullDisk, loses_no_agent_that_raises_an_alarm) {
  const std::string id = cut_off_at_commit(c);
  const auto before = c.a.channel();
  api::Envelope notice;
  notice.mutable_alarm()->mutable_id()->set_migration(id);
  *notice.mutable_alarm()->mutable_failure() = net::to_failure(Error(Errc::already_exists, "two copies run"));
  disk.refuse("INSERT ON events");
  net::run_to_end(c.io, post(c.a.channel(), notice));
  net::run_to_end(c.io, look_at(c.daemon.agents, "a"));  // its answer comes behind the alarm
  EXPECT_TRUE(before->is_open());
  EXPECT_THAT(events(c, id, "alarm"), testing::IsEmpty());
  disk.make_room();
  net::run_to_end(c.io, post(c.a.channel(), notice));
  c.until([&] { return events(c, id, "alarm").size() == 1; });
}

TEST_F(FullDisk, begins_no_migration_that_cannot_be_journaled) {
  for (const char* what : {"INSERT ON epochs", "INSERT ON migrations"}) {
    disk.refuse(what);
    EXPECT_THAT(why_not_started(), HasSubstr("full")) << what;
    disk.make_room();
    EXPECT_EQ(c.daemon.driver.active_for("redis"), "");
    EXPECT_TRUE(c.store.migrations(10).empty());
    EXPECT_TRUE(c.store.unfinished().empty());
  }
  EXPECT_EQ(c.migrate().outcome, Outcome::done);
}

TEST_F(FullDisk, rolls_back_a_migration_that_has_no_room_for_its_first_event) {
  disk.refuse("INSERT ON events");
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return std::ranges::count(c.a.asked, Env::kAbort) > 0; });
  EXPECT_EQ(std::ranges::count(c.a.asked, Env::kSurvey), 0) << "what is not journaled is not done";
  disk.make_room();
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("full"));
  EXPECT_EQ(c.migrate().outcome, Outcome::done) << "and it is in nobody's way";
}

TEST_F(FullDisk, leaves_a_node_that_cannot_be_cordoned_as_it_was) {
  disk.refuse("INSERT ON cordons");
  for (const char* what : {"cordon", "evacuate"}) {
    const net::HttpResponse r =
        c.request({.method = "POST", .target = fmt::format("/v1/nodes/a/{}", what), .body = {}});
    EXPECT_EQ(r.status, 500u);
    EXPECT_THAT(r.body, HasSubstr("full")) << "who asked is told why";
  }
  EXPECT_FALSE(c.daemon.registry.node("a").cordon);
  EXPECT_EQ(c.request({.target = "/v1/nodes/a/evacuation"}).status, 404u) << "none has begun";
  disk.make_room();
  EXPECT_EQ(c.request({.method = "POST", .target = "/v1/nodes/a/evacuate", .body = {}}).status, 202u);
  c.until([&] { return c.request({.target = "/v1/nodes/a/evacuation"}).body.find("\"ended\"") != std::string::npos; });
  EXPECT_TRUE(c.b.runs("redis"));
}

}  // namespace
}  // namespace godwit::coordinator
