#include "coordinator/testing/fake_agent.h"

#include "common/base/log.h"
#include "coordinator/registry/registry.h"

#include <algorithm>
#include <cmath>

namespace godwit::coordinator {

using net::awaitable;
using namespace std::chrono_literals;

FakeAgent::FakeAgent(net::Executor executor, std::string n, net::Address coordinator, net::TlsContext tls)
    : node(std::move(n)),
      store_uuid("store-" + node),
      executor_(executor),
      coordinator_(std::move(coordinator)),
      tls_(std::move(tls)),
      closed_(executor) {}

FakeAgent::~FakeAgent() { stop(); }

void FakeAgent::start() { net::spawn(executor_, "fake_agent", live()); }

void FakeAgent::stop() {
  *alive_ = false;
  reconnects = false;
  if (channel_) channel_->close();
  closed_.notify();
}

awaitable<void> FakeAgent::live() {
  const std::shared_ptr<bool> alive = alive_;
  do {
    try {
      co_await connect_once();
    } catch (const Error& e) {
      log::debug("fake_agent.cut_off", {{"node", node}, {"message", e.message()}});
    }
    if (!*alive) co_return;
    co_await net::sleep_for(30ms);
  } while (*alive && reconnects);
}

awaitable<void> FakeAgent::connect_once() {
  const std::shared_ptr<bool> alive = alive_;
  net::Connection connection = co_await net::connect(coordinator_, tls_, 5s);
  net::Channel::Handlers handlers;
  handlers.request = [this](api::Envelope e) { return answer(std::move(e)); };
  handlers.closed = [this, alive](Error) {
    if (*alive) closed_.notify();
  };
  channel_ = net::Channel::start(std::move(connection), std::move(handlers));
  api::Envelope request;
  *request.mutable_register_() = hello();
  co_await channel_->ask(std::move(request), 5s);
  registered_ = true;
  while (*alive && channel_->is_open()) co_await closed_.wait_until(Clock::now() + 50ms);
  if (*alive) registered_ = false;
}

api::Register FakeAgent::hello() const {
  api::Register r;
  r.set_version(control_version);
  r.set_node(node);
  r.set_memory_available(memory_available);
  r.set_xfeatures(0x7);
  r.set_peer_address("127.0.0.1:1");
  r.set_pages_address("127.0.0.1:2");
  r.set_store_uuid(store_uuid);
  r.set_boot_id("boot-" + node);
  for (const api::WorkloadInfo& w : workloads) *r.add_workloads() = w;
  return r;
}

bool FakeAgent::runs(const std::string& workload) const {
  return std::ranges::any_of(workloads, [&](const auto& w) { return w.name() == workload && w.state() == "running"; });
}

void FakeAgent::take_over(const Left& left) {
  workloads = left.workloads;
  source = left.source;
  destination = left.destination;
  moving_ = left.moving;
  migration_ = left.migration;
}

bool FakeAgent::knows(const api::MigrationId& id) const { return migration_.empty() || id.migration() == migration_; }

api::WorkloadInfo* FakeAgent::find(const std::string& workload) {
  const auto it = std::ranges::find_if(workloads, [&](const auto& w) { return w.name() == workload; });
  return it == workloads.end() ? nullptr : &*it;
}

awaitable<void> FakeAgent::misbehave(Fault fault) {
  switch (fault) {
    case Fault::refuse: throw Error(refusal, "the fake agent says no", "ask another");
    case Fault::break_before:
    case Fault::break_after:
      channel_->close();
      closed_.notify();
      co_return;
    case Fault::hang_before:
    case Fault::hang_after: co_await net::sleep_for(1h); co_return;
    case Fault::late: co_await net::sleep_for(late_by); co_return;
    case Fault::wrong_answer: co_return;
  }
}

awaitable<api::Envelope> FakeAgent::answer(api::Envelope request) {
  asked.push_back(request.body_case());
  if (on_request) on_request(request.body_case());
  std::optional<Fault> fault;
  if (const auto it = always.find(request.body_case()); it != always.end()) fault = it->second;
  if (const auto it = once.find(request.body_case()); it != once.end()) {
    fault = it->second;
    once.erase(it);
  }
  api::Envelope reply;
  if (fault == Fault::wrong_answer) {
    reply.mutable_workload();
    co_return reply;
  }
  const bool acts = !fault || fault == Fault::break_after || fault == Fault::hang_after || fault == Fault::late;
  if (acts) reply = act(request);
  if (acts && says_everything_twice) {
    // A duplicate of the reply, and one to a request that was never made: both must be ignored.
    api::Envelope copy = reply;
    copy.set_id(request.id());
    copy.set_reply(true);
    co_await channel_->post(copy);
    api::Envelope stray;
    stray.mutable_progress()->mutable_id()->set_migration("no such migration");
    co_await channel_->post(stray);
    reply = act(request);  // idempotent
  }
  if (fault) co_await misbehave(*fault);
  co_return reply;
}

api::Envelope FakeAgent::act(const api::Envelope& request) {
  api::Envelope reply;
  switch (request.body_case()) {
    case api::Envelope::kListWorkloads:
      reply.mutable_workload_list();
      for (const api::WorkloadInfo& w : workloads) *reply.mutable_workload_list()->add_workloads() = w;
      reply.mutable_workload_list()->set_memory_available(memory_available);
      break;
    case api::Envelope::kRunWorkload: {
      api::WorkloadInfo w;
      w.set_name(request.run_workload().name());
      w.set_id("run.0");
      w.set_state("running");
      w.set_pid(4242);
      *w.mutable_argv() = request.run_workload().argv();
      workloads.push_back(w);
      *reply.mutable_workload() = w;
      break;
    }
    case api::Envelope::kKillWorkload:
      if (!find(request.kill_workload().name())) fail(Errc::not_found, "no such workload");
      find(request.kill_workload().name())->set_state("exited");
      reply.mutable_ok();
      break;
    case api::Envelope::kRelay: *reply.mutable_relay() = request.relay(); break;
    case api::Envelope::kCheck:
      reply.mutable_checked();
      for (const std::string& r : check_refusals) reply.mutable_checked()->add_refusals(r);
      for (const std::string& n : notices) reply.mutable_checked()->add_notices(n);
      break;
    case api::Envelope::kPrepare:
    case api::Envelope::kFinish:
    case api::Envelope::kCommit:
    case api::Envelope::kDiscard:
    case api::Envelope::kQuery: destination_act(request, reply); break;
    default: source_act(request, reply); break;
  }
  return reply;
}

api::SourceState FakeAgent::source_state() {
  if (source == api::SOURCE_ARMED && peer) {
    // What the agents do among themselves: an armed source reads the destination's record.
    if (peer->destination == api::DESTINATION_REFUSED ||
        (peer->destination == api::DESTINATION_LOST && !peer->holds_after_loss))
      source = api::SOURCE_THAWED;
    if (peer->destination == api::DESTINATION_RESUMED) source = api::SOURCE_KILLED;
  }
  if (api::WorkloadInfo* w = find(moving_); w && (source == api::SOURCE_THAWED || source == api::SOURCE_ABORTED))
    w->set_state("running");
  if (source == api::SOURCE_KILLED || source == api::SOURCE_KILLING)
    std::erase_if(workloads, [&](const auto& w) { return w.name() == moving_; });
  api::SourceState state;
  state.set_phase(source);
  state.set_store_uuid(store_uuid);
  if (source == api::SOURCE_KILLED) state.set_frozen_ns(40'000'000);
  return state;
}

void FakeAgent::source_act(const api::Envelope& request, api::Envelope& reply) {
  switch (request.body_case()) {
    case api::Envelope::kSurvey: {
      const std::string workload = request.survey().workload().empty() ? "by-pid" : request.survey().workload();
      if (!request.survey().dry_run()) epochs.push_back(request.survey().id().epoch());
      if (!request.survey().dry_run() && epochs.back() < highest_epoch) {
        reply.mutable_surveyed()->set_newer_epoch(highest_epoch);
        break;
      }
      if (!request.survey().dry_run()) {
        moving_ = workload;
        migration_ = request.survey().id().migration();
        if (source == api::SOURCE_KILLED || source == api::SOURCE_THAWED)
          source = api::SOURCE_NONE;  // of the one before
      }
      reply.mutable_surveyed()->set_workload(workload);
      reply.mutable_surveyed()->set_engine("what the engine saw");
      reply.mutable_surveyed()->set_resident_bytes(resident_bytes);
      reply.mutable_surveyed()->set_xfeatures(0x3);
      if (const api::WorkloadInfo* w = find(workload)) *reply.mutable_surveyed()->mutable_info() = *w;
      reply.mutable_surveyed()->mutable_info()->set_name(workload);
      for (const std::string& r : survey_refusals) reply.mutable_surveyed()->add_refusals(r);
      probes.push_back(request.survey().probe_ms());
      if (probes.back() == 0) break;
      for (const auto& [seconds, bytes] : writes) {
        reply.mutable_surveyed()->add_dirty()->set_seconds(seconds);
        reply.mutable_surveyed()->mutable_dirty()->rbegin()->set_bytes(bytes);
      }
      break;
    }
    case api::Envelope::kRound: {
      const std::size_t n = request.round().number();
      const std::uint64_t sent = n == 0 ? 1'000'000'000 : dirty_after[std::min(n - 1, dirty_after.size() - 1)];
      api::RoundDone& done = *reply.mutable_round_done();
      done.set_number(request.round().number());
      done.set_bytes(sent);
      done.set_pages(sent / 4096);
      done.set_seconds(static_cast<double>(sent) / 1e9);
      const double shrunk = std::pow(writes_less_by, static_cast<double>(throttled.size()));
      done.set_dirty_bytes_after(
          static_cast<std::uint64_t>(static_cast<double>(dirty_after[std::min(n, dirty_after.size() - 1)]) / shrunk));
      done.set_last_sequence(10 + n);
      break;
    }
    case api::Envelope::kFreeze: {
      const std::uint64_t difference = last_differences[std::min(most_bytes.size(), last_differences.size() - 1)];
      most_bytes.push_back(request.freeze().most_bytes());
      limit_ms.push_back(request.freeze().limit_ms());
      const bool slow = most_bytes.back() > 0 && slow_freezes > 0;
      if (slow) slow_freezes--;
      if (slow || (most_bytes.back() > 0 && difference > most_bytes.back())) {
        source = api::SOURCE_FROZEN;  // the record, which stays
        reply.mutable_frozen()->mutable_over_budget()->set_bytes(difference);
        reply.mutable_frozen()->mutable_over_budget()->set_stopped_ns(3'000'000);
        break;
      }
      source = api::SOURCE_FROZEN;
      if (api::WorkloadInfo* w = find(moving_)) w->set_state("frozen");
      reply.mutable_frozen()->mutable_round()->set_bytes(difference);
      reply.mutable_frozen()->mutable_round()->set_pages(difference / 4096);
      reply.mutable_frozen()->mutable_round()->set_seconds(0.001);
      reply.mutable_frozen()->mutable_round()->set_last_sequence(99);
      api::Step& step = *reply.mutable_frozen()->add_steps();
      step.set_name("freeze");
      step.set_nanoseconds(1'000'000);
      break;
    }
    case api::Envelope::kArm:
      if (source != api::SOURCE_FROZEN && source != api::SOURCE_ARMED) fail(Errc::refused, "not frozen");
      source = api::SOURCE_ARMED;
      reply.mutable_armed()->set_commit_token("token");
      break;
    case api::Envelope::kAbort:
      if (!knows(request.abort().id())) {  // a tombstone
        reply.mutable_source_state()->set_phase(api::SOURCE_THAWED);
        break;
      }
      if (source == api::SOURCE_FROZEN) source = api::SOURCE_THAWED;
      if (source == api::SOURCE_ARMED && peer && peer->destination != api::DESTINATION_RESUMED)
        peer->destination = api::DESTINATION_REFUSED;
      *reply.mutable_source_state() = source_state();
      break;
    case api::Envelope::kKillSource:
      if (source == api::SOURCE_ARMED) source = api::SOURCE_KILLED;
      *reply.mutable_source_state() = source_state();
      break;
    case api::Envelope::kResolve:
      resolutions.push_back(request.resolve());
      // Of the nodes that are registered, besides this one.
      if (!request.resolve().go_on() && request.resolve().registered_size() > 1)
        fail(Errc::refused, "not off: its agent answers");
      if (request.resolve().source_is_off()) {
        if (destination == api::DESTINATION_PREPARED) destination = api::DESTINATION_RESUMED;
        reply.mutable_destination_state()->set_phase(destination);
        break;
      }
      if (source == api::SOURCE_ARMED) source = api::SOURCE_THAWED;
      *reply.mutable_source_state() = source_state();
      break;
    case api::Envelope::kThrottle:
      throttled.push_back(request.throttle().percent());
      reply.mutable_throttled()->set_cpus(request.throttle().percent() / 100.0);
      break;
    case api::Envelope::kSetRate:
      rates.push_back(request.set_rate().rate_limit());
      reply.mutable_ok();
      break;
    case api::Envelope::kQuerySource: *reply.mutable_source_state() = source_state(); break;
    case api::Envelope::kConnect: epochs.push_back(request.connect().id().epoch()); [[fallthrough]];
    default: reply.mutable_ok(); break;
  }
}

void FakeAgent::destination_act(const api::Envelope& request, api::Envelope& reply) {
  switch (request.body_case()) {
    case api::Envelope::kPrepare:
      epochs.push_back(request.prepare().id().epoch());
      if (epochs.back() < highest_epoch) {
        reply.mutable_prepared()->set_newer_epoch(highest_epoch);
        break;
      }
      moving_ = request.prepare().workload().name();
      migration_ = request.prepare().id().migration();
      if_lost.push_back(request.prepare().options().if_lost());
      destination = api::DESTINATION_BUILDING;
      reply.mutable_prepared()->set_peer_address("127.0.0.1:1");
      reply.mutable_prepared()->set_pages_address("127.0.0.1:2");
      reply.mutable_prepared()->set_token(std::string(32, 't'));
      for (const std::string& n : notices) reply.mutable_prepared()->add_notices(n);
      break;
    case api::Envelope::kFinish: {
      destination = api::DESTINATION_PREPARED;
      api::Step& step = *reply.mutable_finished()->add_steps();
      step.set_name("apply");
      step.set_nanoseconds(2'000'000);
      reply.mutable_finished()->set_boot_id("boot-" + node);
      reply.mutable_finished()->mutable_workload()->set_name(moving_);
      reply.mutable_finished()->mutable_workload()->set_state("prepared");
      break;
    }
    case api::Envelope::kCommit: {
      epochs.push_back(request.commit().id().epoch());
      if (destination == api::DESTINATION_PREPARED) {
        if (request.commit().commit_token() != "token") fail(Errc::denied, "a commit without the token");
        destination = api::DESTINATION_RESUMED;
        api::WorkloadInfo w;
        w.set_name(moving_);
        w.set_id("moved.1");
        w.set_state("running");
        workloads.push_back(w);
      }
      if (destination != api::DESTINATION_RESUMED) fail(Errc::refused, "not prepared");
      reply.mutable_resumed();
      break;
    }
    case api::Envelope::kDiscard:
      if (!knows(request.discard().id())) {
        reply.mutable_destination_state()->set_phase(api::DESTINATION_REFUSED);
        break;
      }
      if (destination == api::DESTINATION_BUILDING || destination == api::DESTINATION_PREPARED ||
          destination == api::DESTINATION_NONE)
        destination = api::DESTINATION_REFUSED;
      [[fallthrough]];
    default:  // Query
      reply.mutable_destination_state()->set_phase(destination);
      reply.mutable_destination_state()->set_boot_id("boot-" + node);
      reply.mutable_destination_state()->set_store_uuid(store_uuid);
      reply.mutable_destination_state()->set_hold(holds_after_loss && destination == api::DESTINATION_LOST);
      break;
  }
}

}  // namespace godwit::coordinator
