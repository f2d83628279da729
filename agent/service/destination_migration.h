// The destination's side of one migration attempt: builds the copy from what arrives, holds it, and lets it run when
// it is told to with the token that only an armed source gives away (docs/commit-protocol.md).
//
// Once prepared, only the source's word or the destination's own failure makes it give up: it may hold the last copy.
// On the executor's thread; kept alive by its own coroutines. destination_outcome.cc has everything from Commit
// on, destination_resolve.cc what an operator decides, destination_watch.cc what the destination does unasked.
#pragma once

#include "agent/jobs/engine_job.h"
#include "agent/service/context.h"
#include "agent/service/laps.h"
#include "agent/service/resolution.h"
#include "agent/service/steps.h"
#include "agent/service/token.h"
#include "common/net/channel.h"

#include <map>
#include <memory>
#include <optional>

namespace godwit::service {

class DestinationMigration : public std::enable_shared_from_this<DestinationMigration> {
 public:
  DestinationMigration(Context& context, Key key)
      : context_(context),
        key_(std::move(key)),
        steps_(context.executor),
        turn_(context.executor),
        discarding_(context.executor),
        changed_(context.executor) {}

  // From the coordinator.
  net::awaitable<api::Envelope> prepare(api::Prepare request);
  net::awaitable<api::Envelope> finish(api::Finish request);
  net::awaitable<api::Envelope> commit(api::Commit request);
  net::awaitable<api::Envelope> discard(api::Discard request);
  net::awaitable<api::Envelope> resolve(api::Resolve request);
  api::Envelope state();

  // From the source's agent, on a channel whose certificate names `source_node()`.
  api::Envelope hello(const api::PeerHello& hello, std::weak_ptr<net::Channel> channel);
  net::awaitable<void> manifest(std::string entries);
  net::awaitable<api::Envelope> drain(api::Drain request);
  net::awaitable<api::Envelope> refuse();
  net::awaitable<api::Envelope> settled(api::Settled settled);
  net::awaitable<api::Envelope> relayed(api::Relay relay);  // one of these, by way of the coordinator
  std::string source_node();

  // After a restart of the agent, from the record alone.
  net::awaitable<void> recover();

  bool over() const { return over_; }
  void stop() { stopped_ = true; }
  void drop() { steps_.drop(); }

 private:
  // destination_migration.cc, destination_build.cc
  net::awaitable<api::Envelope> do_prepare(api::Prepare request);
  net::awaitable<api::Envelope> do_finish(api::Finish request);
  net::awaitable<void> build();
  net::awaitable<void> open_session(const UniqueFd& spool);
  void close_network(const workload::Cgroup& copy);
  net::awaitable<void> start_job(UniqueFd spool, std::uint64_t window, UniqueFd init);
  net::awaitable<void> wait_complete(std::uint64_t sequence);
  net::awaitable<void> build_last(std::uint64_t sequence, Laps& laps);
  net::awaitable<void> wait_for_leftovers();
  workload::HeldTasks check_held(const engine::Prepared& prepared);
  jobs::EngineJob::Handlers job_handlers();
  void absorbed(const engine::Absorbed& absorbed);
  void stored(std::uint32_t stream, std::uint64_t upto);
  Record record() const;

  // destination_resolve.cc
  net::awaitable<api::Envelope> do_resolve(api::Resolve request);
  net::awaitable<void> check_silent(KnownPeer source);

  // destination_outcome.cc, destination_watch.cc
  net::awaitable<api::Envelope> do_commit(api::Commit request);
  net::awaitable<api::Envelope> do_discard(api::Discard request);
  net::awaitable<api::Envelope> do_refuse();
  net::awaitable<void> resume();               // committed, resumed; holds the turn
  net::awaitable<void> give_up(Error why);     // refused, discards; holds the turn
  net::awaitable<void> lose(std::string why);  // committed, but it cannot run
  net::awaitable<void> stop_running_copy();
  net::awaitable<void> discard_copy();
  net::awaitable<void> destroy_copy();
  net::awaitable<void> release();  // what was only needed to build
  net::awaitable<void> own_failure(Error why);
  net::awaitable<SourcePhase> ask_source();
  net::awaitable<api::Envelope> ask_peer(api::Envelope request);
  net::awaitable<api::Envelope> answer_source(api::Envelope request);
  bool runs_beside(SourcePhase source);
  net::awaitable<void> act_on(SourcePhase source);
  net::awaitable<void> pursue();
  net::awaitable<bool> go_on();
  net::awaitable<void> after_resumed();
  net::awaitable<bool> refuse_if_gone();
  net::awaitable<void> ask_silent_source();
  void failed(Error why);
  void tell_source(const std::optional<Error>& failure = {});
  bool copy_intact();
  bool copy_held();
  DestinationPhase phase();

  struct Stream {
    std::uint64_t needed = 0;  // by the manifests so far
    std::uint64_t stored = 0;
    std::uint64_t absorbed = 0;  // by the engine: the copy holds it
  };

  Context& context_;
  Key key_;
  Steps steps_;
  Turn turn_;
  Turn discarding_;
  net::Signal changed_;

  api::Prepare request_;
  engine::Surveyed survey_;
  std::shared_ptr<jobs::EngineJob> job_;
  UniqueFd thawed_root_;  // of the copy, from just before it was thawed
  std::weak_ptr<net::Channel> channel_;
  std::optional<TokenBytes> commit_hash_;
  TokenBytes relay_key_{};
  std::string source_boot_, source_store_;  // as its first hello said
  bool resolved_ = false;                   // committed on an operator's word
  std::map<std::uint32_t, Stream> streams_;
  std::uint64_t manifest_sequence_ = 0;
  TokenBytes session_token_{};
  std::string network_stays_open_;  // why; empty: it is closed until `resumed` is recorded

  pid_t root_ = 0;
  std::uint64_t start_time_ = 0;
  api::Resumed resumed_;
  bool hold_if_lost_ = false;  // the source's copy, once this one may have run
  bool may_have_run_ = false;  // from just before the thaw, or with the record `committed` of a former life
  std::optional<Error> failure_;
  bool stopped_ = false;
  bool over_ = false;
  Clock::time_point heard_ = Clock::now();
  Clock::time_point absorbed_{};
  Clock::time_point told_{};  // the coordinator and the source, of progress
};

}  // namespace godwit::service
