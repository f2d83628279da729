// An agent for tests: speaks control.proto over real TLS, keeps the two records of the commit protocol, and does
// nothing to any process. Faults are set per request. Runs on the test's io_context.
#pragma once

#include "common/net/channel.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace godwit::coordinator {

enum class Fault {
  refuse = 1,    // answers with a Failure and does nothing
  break_before,  // cuts the connection instead of doing it
  break_after,   // does it and cuts the connection instead of answering
  hang_before,   // neither does it nor answers
  hang_after,    // does it and does not answer
  wrong_answer,  // answers with Ok or, where that is right, with something else
  late,          // does it and answers after `late_by`
};

class FakeAgent {
 public:
  using Body = api::Envelope::BodyCase;

  FakeAgent(net::Executor executor, std::string node, net::Address coordinator, net::TlsContext tls);
  ~FakeAgent();

  void start();  // connects, registers, and comes back when it was cut off, until stop()
  void stop();
  bool registered() const { return registered_; }

  // What the test sets and looks at.
  std::string node;
  std::map<Body, Fault> once;  // taken away when it strikes
  std::map<Body, Fault> always;
  Errc refusal = Errc::internal;
  Clock::duration late_by = std::chrono::milliseconds(300);
  std::vector<std::string> survey_refusals;
  std::vector<std::string> check_refusals;
  std::vector<std::string> notices;                      // as the destination
  std::vector<std::uint32_t> probes;                     // milliseconds, of each Survey
  std::vector<std::pair<double, std::uint64_t>> writes;  // what a probe finds
  std::uint64_t memory_available = 8ull << 30;
  std::uint64_t resident_bytes = 1'000'000'000;  // of each workload
  FakeAgent* peer = nullptr;                     // an armed source asks it
  bool reconnects = true;
  std::vector<Body> asked;  // requests in order
  std::function<void(Body)> on_request;
  std::vector<api::WorkloadInfo> workloads;
  api::SourcePhase source = api::SOURCE_NONE;
  api::DestinationPhase destination = api::DESTINATION_NONE;
  std::vector<std::uint64_t> dirty_after{20'000'000, 400'000, 4096};  // of each round; the last one for all further
  bool says_everything_twice = false;
  std::vector<std::uint64_t> last_differences{4096};  // of each attempt to freeze; the last one for all further
  unsigned slow_freezes = 0;                          // of so many the pages take too long, where that counts
  std::vector<std::uint64_t> most_bytes, limit_ms;    // of each Freeze
  std::vector<std::uint32_t> throttled;               // percent, of each Throttle
  double writes_less_by = 1;                          // `dirty_after` is divided by it for each Throttle
  std::vector<std::uint64_t> rates;                   // of each SetRate
  std::uint64_t highest_epoch = 0;                    // that it has seen of any workload
  std::vector<std::uint64_t> epochs;                  // of each Survey, Prepare, Connect and Commit
  std::string store_uuid;
  bool holds_after_loss = false;          // as a destination: what it has lost may have run
  std::vector<api::IfLost> if_lost;       // of each Prepare
  std::vector<api::Resolve> resolutions;  // as they were asked for

  api::Register hello() const;
  std::shared_ptr<net::Channel> channel() const { return channel_; }
  bool runs(const std::string& workload) const;

  // What is on the node whatever becomes of the coordinator.
  struct Left {
    std::vector<api::WorkloadInfo> workloads;
    api::SourcePhase source = api::SOURCE_NONE;
    api::DestinationPhase destination = api::DESTINATION_NONE;
    std::string moving, migration;
  };
  Left left() const { return {workloads, source, destination, moving_, migration_}; }
  void take_over(const Left& left);

 private:
  net::awaitable<void> live();
  net::awaitable<void> connect_once();
  net::awaitable<api::Envelope> answer(api::Envelope request);
  net::awaitable<void> misbehave(Fault fault);
  api::Envelope act(const api::Envelope& request);
  api::SourceState source_state();
  void source_act(const api::Envelope& request, api::Envelope& reply);
  void destination_act(const api::Envelope& request, api::Envelope& reply);
  api::WorkloadInfo* find(const std::string& workload);
  bool knows(const api::MigrationId& id) const;

  net::Executor executor_;
  net::Address coordinator_;
  net::TlsContext tls_;
  std::shared_ptr<net::Channel> channel_;
  net::Signal closed_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  bool registered_ = false;
  std::string moving_;     // the workload, and
  std::string migration_;  // which the records are of; empty: of whichever is asked for
};

}  // namespace godwit::coordinator
