// The source's side of one migration attempt: the steps that the coordinator asks for, each carried out once, and
// the durable record that goes before every action (docs/commit-protocol.md).
//
// Until it is armed the source lets its copy go on its own word: whatever fails, aborts or stays silent too long
// ends in `thawed`. Armed, only the destination's record decides, and the source keeps asking for it by itself.
//
// On the executor's thread; kept alive by its own coroutines. source_throttle.cc has how fast the workload and its
// pages may go, source_outcome.cc everything from Arm on, source_resolve.cc what an operator decides, source_watch.cc
// what the source does unasked.
#pragma once

#include "agent/service/page_feed.h"
#include "agent/service/resolution.h"
#include "agent/service/source_tree.h"
#include "agent/service/steps.h"
#include "agent/service/token.h"
#include "agent/workload/cpu_limit.h"

#include <memory>
#include <optional>

namespace godwit::service {

class SourceMigration : public std::enable_shared_from_this<SourceMigration> {
 public:
  SourceMigration(Context& context, Key key)
      : context_(context),
        key_(std::move(key)),
        steps_(context.executor),
        turn_(context.executor),
        changed_(context.executor) {}

  net::awaitable<api::Envelope> survey(api::Survey request);
  net::awaitable<api::Envelope> connect(api::Connect request);
  net::awaitable<api::Envelope> round(api::Round request);
  net::awaitable<api::Envelope> freeze(api::Freeze request);
  net::awaitable<api::Envelope> throttle(api::Throttle request);
  api::Envelope set_rate(const api::SetRate& request);
  net::awaitable<api::Envelope> arm(api::Arm request);
  net::awaitable<api::Envelope> abort(api::Abort request);
  net::awaitable<api::Envelope> kill();
  net::awaitable<api::Envelope> resolve(api::Resolve request);
  net::awaitable<api::Envelope> relayed(api::Relay relay);
  api::Envelope state();

  // After a restart of the agent, from the record alone. Engine jobs of the former life are gone.
  net::awaitable<void> recover();

  bool over() const { return over_; }
  void pass_over();  // a higher epoch is asked for: unless there is a record of this one, it is over
  void stop();       // the agent ends: nothing is undone, nobody is asked any more
  void drop() { steps_.drop(); }

 private:
  // source_migration.cc, source_watch.cc
  net::awaitable<api::Envelope> do_survey(api::Survey request);
  net::awaitable<api::Envelope> do_connect(api::Connect request);
  net::awaitable<api::Envelope> do_round(api::Round request);
  net::awaitable<api::Envelope> do_freeze(api::Freeze request);
  net::awaitable<engine::Surveyed> ask_survey(std::shared_ptr<jobs::EngineJob> job);
  net::awaitable<engine::Probed> probe(std::shared_ptr<jobs::EngineJob> job, std::uint32_t length_ms);
  net::awaitable<void> drain_destination();
  net::awaitable<engine::Frozen> freeze_and_send(api::Freeze request);
  void run_on();
  net::awaitable<void> report_progress(std::weak_ptr<PageFeed> feed, std::uint32_t round);
  net::awaitable<engine::Event> ask_engine(engine::Command command, Clock::duration limit);
  jobs::EngineJob::Handlers job_handlers();
  PeerLink::Handlers peer_handlers();
  static net::awaitable<api::Envelope> peer_request(std::shared_ptr<SourceMigration> self, api::Envelope request);
  static net::awaitable<void> peer_notice(std::shared_ptr<SourceMigration> self, api::Envelope notice);
  net::awaitable<void> wait_stored(std::uint64_t sequence, Clock::duration limit,
                                   Clock::time_point until = Clock::time_point::max());
  net::awaitable<void> feed_failed(Error error);
  void check_unprobed() const;
  void check_unmoved() const;
  void check_freezable() const;
  void failed(Error error);
  void interrupt(Error error);
  net::awaitable<void> drop_job();
  net::awaitable<void> pursue();
  net::awaitable<void> go_on();
  void check_driven();
  Clock::time_point moved() const;  // the migration, as far as can be seen here
  void finish_at_home();
  Record record() const;

  // source_throttle.cc
  net::awaitable<api::Envelope> do_throttle(api::Throttle request);
  void mark_cpu_time();
  void limit_cpu_time();
  void lift_throttle();

  // source_outcome.cc
  net::awaitable<api::Envelope> do_arm(api::Arm request);
  net::awaitable<api::Envelope> do_abort(api::Abort request);
  net::awaitable<api::Envelope> do_kill();
  net::awaitable<void> abort_unarmed(std::string reason);
  bool enter_lost();                 // when it is; the caller holds the turn
  net::awaitable<void> let_go();     // aborted, thawed; holds the turn
  net::awaitable<void> kill_copy();  // killing, killed
  net::awaitable<DestinationPhase> ask_destination(bool refuse);
  net::awaitable<void> decide();  // asks until it is known
  bool record_settled();
  net::awaitable<void> settle();  // tells the destination until it has heard
  net::awaitable<void> release();
  SourcePhase phase() const;
  std::shared_ptr<PeerLink> peer();
  net::awaitable<api::Envelope> ask_peer(api::Envelope request);  // over its channel, else by way of the coordinator
  TokenBytes commit_token() const { return keyed_hash(secret_, "commit"); }
  TokenBytes relay_key() const;

  // source_resolve.cc
  net::awaitable<api::Envelope> do_resolve(api::Resolve request);
  void hold_after_loss();
  net::awaitable<void> check_held();
  net::awaitable<void> check_silent();
  KnownPeer destination_known() const;
  std::string its_record() const;
  bool is_alarming(const api::DestinationState& there);

  Context& context_;
  Key key_;
  Steps steps_;
  Turn turn_;
  net::Signal changed_;

  SourceTree tree_;
  api::Survey request_;
  std::shared_ptr<jobs::EngineJob> job_;
  std::shared_ptr<PeerLink> peer_;
  std::shared_ptr<PageFeed> feed_;
  TokenBytes secret_{};                        // behind commit token and relay key
  std::unique_ptr<workload::CpuLimit> limit_;  // there while the workload is throttled
  double limited_to_ = 0;                      // CPUs
  struct CpuMark {
    std::uint64_t used_us = 0;
    Clock::time_point at;
  };
  std::optional<CpuMark> cpu_mark_;  // when its pages began to be sent
  std::optional<double> cpus_used_;  // from then on, before it was first throttled
  std::string peer_node_, peer_address_, peer_boot_, peer_store_;
  std::string boot_;  // of this node, when it had the copy

  std::optional<Error> failure_;  // what ended it; the first one counts
  int asking_engine_ = 0;
  bool touched_ = false;  // the engine may have borrowed something
  bool runs_on_ = false;  // `frozen` is recorded, but the last difference was too large and is still to come
  bool deciding_ = false;
  bool settling_ = false;
  bool releasing_ = false, released_ = false;
  bool resolved_ = false;  // by an operator
  bool held_ = false;      // armed: the destination has lost what may have run, and an operator decides
  bool stopped_ = false;
  bool over_ = false;
  Clock::time_point heard_ = Clock::now();  // last request
  Clock::time_point told_{};                // by the destination, that it proceeds
  Clock::time_point frozen_since_{};
  std::uint64_t frozen_at_ns_ = 0;
  std::uint64_t frozen_ns_ = 0;
};

}  // namespace godwit::service
