// For tests: an armed source and a prepared destination, of which one does not come back, and an operator.
#pragma once

#include "agent/service/test_migration.h"

namespace godwit::service {

using namespace std::chrono_literals;

class ResolveTest : public MigrationTest {
 protected:
  // Nobody but the operator decides within a test.
  void SetUp() override {
    MigrationTest::SetUp();
    a.agent->context().options.limits.ask_after = 60s;
    a.agent->context().tell_coordinator = [this](api::Envelope e) {
      if (e.has_alarm()) alarms.push_back(e.alarm().failure().code() + ": " + e.alarm().failure().message());
    };
    b.options.listen = b.agent->context().peer_address;  // it comes back where it was
  }
  void TearDown() override {
    if (a.agent) a.agent->context().tell_coordinator = [](api::Envelope) {};
  }

  api::SourceState resolve(const std::function<void(api::Resolve&)>& change = [](api::Resolve&) {}) {
    return ask(a,
               [&](api::Envelope& e) {
                 api::Resolve& r = *e.mutable_resolve();
                 *r.mutable_id() = id;
                 r.set_by("ann");
                 r.set_destination_is_off(true);
                 change(r);
               })
        .source_state();
  }
  std::string why_not(const std::function<void(api::Resolve&)>& change = [](api::Resolve&) {}) {
    return error_of([&] { resolve(change); });
  }

  void power_off(TestNode& node) {
    if (auto copy = workload::Cgroup::open(node.options.cgroup + "/" + to_string(destination_key()))) {
      copy->kill();
      copy->wait_empty(5s);
    }
    node.drop();
  }
  void boot(TestNode& node, const std::string& boot_id = "of another boot") {
    node.renew();
    if (!boot_id.empty()) node.agent->context().facts.boot_id = boot_id;
    pair.start(node);
  }
  void enter_at_destination(DestinationPhase phase) {
    b.records().enter(Record(*b.records().find(destination_key())), phase);
  }
  Key source_key() const { return key_of(id, Side::source); }
  Key destination_key() const { return key_of(id, Side::destination); }
  bool both_settle() {
    return pair.turn_until(
        [&] { return a.records().find(source_key())->settled && b.records().find(destination_key())->settled; });
  }

  std::vector<std::string> alarms;
};

}  // namespace godwit::service
