// How fast a workload and its pages may go while it is moved.
#include "agent/service/source_migration.h"
#include "common/base/log.h"

#include <algorithm>

namespace godwit::service {
namespace {

constexpr double least_cpus = 0.02;  // of what it is said to have used: less is noise
constexpr auto telling_time = std::chrono::milliseconds(50);

}  // namespace

net::awaitable<api::Envelope> SourceMigration::throttle(api::Throttle request) {
  heard_ = Clock::now();
  return steps_.joined(fmt::format("throttle {}", request.percent()),
                       [self = shared_from_this(), request] { return self->do_throttle(request); });
}

// In percent of what it used while its pages were sent: half of a machine is no limit to what uses one CPU of it.
net::awaitable<api::Envelope> SourceMigration::do_throttle(api::Throttle request) {
  if (request.percent() == 0 || request.percent() > 100)
    fail(Errc::invalid_argument, "{} % of its CPU time is nothing to give to a workload", request.percent());
  const auto hold = co_await turn_.take();
  if (failure_) throw *failure_;
  if (!feed_) fail(Errc::invalid_argument, "the migration is not connected");
  if (phase() != SourcePhase::none && !runs_on_) fail(Errc::refused, "the copy is {}", name(phase()));
  api::Envelope answer;
  answer.mutable_throttled();
  if (request.percent() == 100) {
    lift_throttle();
    co_return answer;
  }
  if (!cpu_mark_) fail(Errc::invalid_argument, "there was no round before");
  const auto copy = living_copy(context_, record());
  if (!copy) fail(Errc::target_gone, "the workload has ended");
  while (!cpus_used_ && Clock::now() - cpu_mark_->at < telling_time) co_await net::sleep_for(telling_time / 10);
  if (!cpus_used_) {
    const double seconds = std::chrono::duration<double>(Clock::now() - cpu_mark_->at).count();
    const auto used = static_cast<double>(workload::cpu_time_us(*copy) - cpu_mark_->used_us) / 1e6;
    cpus_used_ = std::max(used / seconds, least_cpus);
  }
  if (!limit_ && context_.lifting->is_under_way(copy->path()))
    fail(Errc::busy, "an earlier limit of its CPU time could not be lifted yet");
  if (!limit_)
    limit_ = std::make_unique<workload::CpuLimit>(copy->path(), "godwit." + to_string(key_),
                                                  context_.limits() + "/" + to_string(key_));
  limited_to_ = *cpus_used_ * request.percent() / 100;
  limit_cpu_time();
  answer.mutable_throttled()->set_cpus(limited_to_);
  log::info("source.throttle", {{"migration", key_.migration}, {"percent", request.percent()}, {"cpus", limited_to_}});
  co_return answer;
}

void SourceMigration::mark_cpu_time() {
  if (cpu_mark_) return;
  const auto copy = workload::Cgroup::open(context_.cgroup(tree_.cgroup));
  if (copy) cpu_mark_ = CpuMark{.used_us = workload::cpu_time_us(*copy), .at = Clock::now()};
}

// The engine lifts it just before the stop, which nobody else could do in time, and when this agent has died.
void SourceMigration::limit_cpu_time() {
  engine::Command command;
  command.mutable_limited()->set_file(limit_->place().file);
  command.mutable_limited()->set_lifted(limit_->place().lifted);
  if (job_ && job_->alive()) job_->post(command);
  try {
    limit_->set(limited_to_);
  } catch (...) {
    context_.lifting->lift(std::move(limit_));
    throw;
  }
}

void SourceMigration::lift_throttle() {
  if (!limit_) return;
  context_.lifting->lift(std::move(limit_));
  engine::Command command;
  command.mutable_limited();
  if (job_ && job_->alive()) job_->post(command);
  log::info("source.lift", {{"migration", key_.migration}});
}

api::Envelope SourceMigration::set_rate(const api::SetRate& request) {
  heard_ = Clock::now();
  if (!feed_) fail(Errc::busy, "no pages are being sent");
  feed_->set_rate(request.rate_limit());
  log::info("source.rate", {{"migration", key_.migration}, {"bytes_per_second", request.rate_limit()}});
  api::Envelope answer;
  answer.mutable_ok();
  return answer;
}

}  // namespace godwit::service
