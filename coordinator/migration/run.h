// One migration on its way: one idempotent step per phase, each written to the journal before it is acted on.
//
// Before Arm every failure rolls back. From Arm on the coordinator decides nothing (cancelled, it has the source ask
// for a refusal): it reads the records of both sides (outcome.cc) until they tell the outcome, or reports it as
// unknown.
//
// Lives on one thread. Errors of a step end in the migration's Reason; drive() throws nothing of its own.
#pragma once

#include "common/net/async.h"
#include "coordinator/migration/policy.h"
#include "coordinator/registry/registry.h"
#include "coordinator/store/store.h"

#include <functional>
#include <optional>
#include <string>

namespace godwit::coordinator {

// How long each answer may take. Time-outs decide when to ask again or give up, never an outcome.
struct Limits {
  Clock::duration survey = std::chrono::seconds(60);   // reads a whole process tree
  Clock::duration prepare = std::chrono::seconds(60);  // checks files by build-id, reserves memory
  Clock::duration connect = std::chrono::seconds(20);  // two TLS handshakes, possibly over a slow path
  Clock::duration stall = std::chrono::seconds(120);   // a round without any sign of progress
  // A step of the pause without any sign of progress, beyond twice what was predicted.
  Clock::duration pause = std::chrono::seconds(10);
  // Of the whole pause until Arm, beyond twice the budget, where that counts. What the prediction cannot know takes
  // some of it: two records are synced on a disk that may be busy, and processes are made on a node that may be.
  Clock::duration beyond_budget = std::chrono::seconds(2);
  Clock::duration arm = std::chrono::seconds(10);             // two fsyncs
  Clock::duration commit = std::chrono::seconds(20);          // two fsyncs and a thaw
  Clock::duration question = std::chrono::seconds(5);         // reading a record
  Clock::duration interval = std::chrono::milliseconds(300);  // between two questions
  Clock::duration patience = std::chrono::seconds(30);        // for records that do not yet tell the outcome
  Clock::duration again = std::chrono::seconds(10);    // until an unknown outcome is asked for anew, then doubled
  Clock::duration farewell = std::chrono::seconds(5);  // for a side that has nothing to decide
  // Whoever is asked dials a node that is off until he gives up, asks it by way of the coordinator, and then lets a
  // copy go whose engine may have died.
  Clock::duration resolve = std::chrono::seconds(70);
  std::uint32_t child_patience_ms = 10'000;  // a child that exists at the freeze: redis saving, say
};

// Of a pause without pages, by the last ones.
struct Overhead {
  std::chrono::nanoseconds least{0};
  std::vector<SeenPause> pauses;
};

// What the agents need to know of a request.
void fill(api::Options* options, const MigrationSpec& spec);

class Run {
 public:
  // A migration from the journal is driven on from its phase.
  Run(net::Executor executor, Store& store, Registry& registry, const Limits& limits, Migration migration,
      const Overhead& overhead);

  net::awaitable<void> drive();  // until the phase is settled

  void progress(const std::string& node, const api::Progress& progress);
  void stop();  // the coordinator ends: roll back if the workload is not yet frozen

  // Ends what is waited for and rolls back; when that has begun already, nothing is tried again whatever comes out. A
  // source that is armed lets its copy go when the destination has refused, which it does as long as it was not asked
  // to commit. Errc::busy from then on: only the records of both sides count. On disk when this returns;
  // Errc::internal when it cannot be, and then it is cancelled all the same. `by` is whoever asks, or empty.
  void cancel(const std::string& by);

  // For the pages from now on, 0: no limit. Errc::busy when there are none to be sent or it is too late. `by` as above.
  net::awaitable<void> set_rate(std::uint64_t bytes_per_second, std::string by);

  // What the source may send for this migration is another share from now on: rounds so far do not tell how fast those
  // to come will be. When it `grew`, what was within the budget still is.
  enum class Share { grew, may_have_fallen };
  void share_changed(Share share);
  // Called when pages begin to be sent.
  void set_on_sending(std::function<void()> on_sending) { on_sending_ = std::move(on_sending); }

  const Migration& migration() const { return m_; }
  std::uint64_t needed_bytes() const;               // of memory at the destination; 0 before it was surveyed
  std::uint64_t number() const { return number_; }  // in the order in which they were launched
  void set_number(std::uint64_t number) { number_ = number; }

  // For whoever watches: `changed` wakes when there are new events in the journal or a newer progress.
  net::Signal& changed() { return changed_; }
  std::uint64_t progress_version() const { return progress_version_; }
  const nlohmann::json& latest_progress() const { return latest_progress_; }

 private:
  using Reply = api::Envelope::BodyCase;
  using SourceAnswer = std::optional<api::SourceState>;
  struct Deadline {
    Clock::time_point at;
    Error missed;
  };
  using DestinationAnswer = std::optional<api::DestinationState>;

  net::awaitable<Event> step();
  net::awaitable<Event> survey();  // steps.cc
  net::awaitable<void> ask_survey();
  void rise_above(const std::string& node, std::uint64_t seen);
  net::awaitable<Event> prepare();
  net::awaitable<void> ask_prepare();
  net::awaitable<Event> connect();
  net::awaitable<Event> round();
  std::optional<Deadline> end_of_round(const Decision& decision) const;
  net::awaitable<void> throttle(Decision decision);
  Event over_budget(const api::Frozen& frozen);
  net::awaitable<Event> freeze();
  net::awaitable<Event> finish();
  net::awaitable<Event> arm();
  net::awaitable<Event> commit();
  net::awaitable<Event> kill();  // outcome.cc, as the rest
  net::awaitable<Event> roll_back();
  net::awaitable<Event> read_records();
  net::awaitable<void> discard();
  std::string why_rolled_back() const;
  api::Envelope abort_request() const;
  net::awaitable<void> conclude_rehearsal();  // rehearsal.cc
  net::awaitable<std::string> difference_from_before();
  net::awaitable<std::optional<api::WorkloadInfo>> listed(std::string node);

  // ask.cc. `reply` is what must come back. ask_while() waits for as long as the agents show progress, or until the
  // deadline, and ends when the migration is given up.
  net::awaitable<api::Envelope> ask(std::string node, api::Envelope request, Reply reply, Clock::duration limit);
  net::awaitable<api::Envelope> ask_while(std::string node, api::Envelope request, Reply reply, Clock::duration stall,
                                          std::optional<Deadline> deadline = {});
  net::awaitable<api::Envelope> answer_or(net::awaitable<api::Envelope> asking, net::awaitable<std::exception_ptr> end);
  net::awaitable<std::exception_ptr> stalled_or_given_up(Clock::duration stall, std::optional<Deadline> deadline);
  net::awaitable<std::exception_ptr> cancelled_meanwhile();
  std::optional<Error> why_given_up() const;
  net::awaitable<SourceAnswer> ask_source(api::Envelope request, Exchange* times = nullptr);
  net::awaitable<DestinationAnswer> ask_destination(api::Envelope request);
  Reason reason_while_held() const;
  bool was_held() const;
  Event held_after_loss();
  void no_longer_held();
  std::optional<Event> verdict(const api::SourceState& source, const DestinationAnswer& destination, bool last);

  void recover();
  void recall();
  void enter(Phase phase);
  void record(const std::string& kind, nlohmann::json body);
  void note(const std::string& text);
  void blame(const Error& error);
  void blame_cancel();
  bool is_of_the_cancel(const Reason& why) const;
  void settle();
  void tell_registry();
  Outcome outcome() const;
  Clock::duration pause_limit() const;
  bool keeps_budget() const;
  Clock::duration longest_pause() const;
  std::optional<Deadline> end_of_pause() const;
  void journal(const std::function<void()>& write);
  void add(RoundRecord round);
  void fill(api::MigrationId* id) const;

  Store& store_;
  Registry& registry_;
  Limits limits_;
  Migration m_;
  net::Signal changed_;
  Clock::time_point began_ = Clock::now();
  Clock::time_point heard_ = Clock::now();  // of the last progress
  std::uint64_t number_ = 0;
  bool stopping_ = false;
  std::optional<Error> cancelled_;
  bool cancel_kept_ = false;  // by the journal
  std::function<void()> on_sending_;
  net::Signal giving_up_;  // wakes whoever waits for an answer
  bool began_here_;        // not taken over from the journal
  std::optional<Error> journal_failure_;
  Phase failed_in_ = Phase::queued;

  unsigned raised_ = 0;  // the epoch, so often
  api::Surveyed surveyed_;
  api::Prepared prepared_;
  std::uint64_t seed_ = 0;
  std::uint64_t last_sequence_ = 0;
  Measurements measured_;         // `rounds` and `elapsed` are those of the moment
  std::uint64_t most_bytes_ = 0;  // of the freeze that was decided upon
  std::string destination_boot_;
  api::WorkloadInfo arrived_;                     // as the destination describes its copy
  std::string source_store_, destination_store_;  // uuids: another store's silence is no proof
  bool unchanged_ = false;  // an unknown outcome is asked for anew, and nothing has come of it yet
  std::string commit_token_;
  bool asked_to_commit_ = false;  // or may have been, in an earlier life
  unsigned recommits_ = 0;
  bool asked_destination_ = false;  // it may hold something to discard
  bool froze_ = false;              // the source may be frozen
  bool refused_ = false;            // by the policy, before anything but pages was asked of the workload
  bool rehearsed_ = false;          // the destination was prepared, as far as a rehearsal goes
  std::int64_t thawed_ns_ = 0;      // when the source had said that it has let its copy go
  Clock::time_point stopped_{};     // the workload: when, at the latest, by the source's word
  PauseTimes times_;
  std::optional<Store::Pause> pause_;

  std::uint64_t progress_version_ = 0;
  nlohmann::json latest_progress_;
};

}  // namespace godwit::coordinator
