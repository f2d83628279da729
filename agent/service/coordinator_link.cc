#include "agent/service/coordinator_link.h"

#include "agent/service/dispatch.h"
#include "agent/service/version.h"
#include "common/base/log.h"

#include <algorithm>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

constexpr Clock::duration least_pause = 200ms;
constexpr Clock::duration most_pause = 5s;
constexpr auto register_limit = 10s;
constexpr auto ask_limit = 10s;  // it asks another agent

}  // namespace

net::awaitable<void> CoordinatorLink::run() {
  const auto self = shared_from_this();
  Clock::duration pause = least_pause;
  std::string last;
  while (!stopped_) {
    std::exception_ptr problem;
    try {
      co_await serve_once();
    } catch (...) {
      problem = std::current_exception();
    }
    if (std::exchange(registered_, false)) pause = least_pause;
    channel_.reset();
    if (stopped_) co_return;
    const Error why = problem ? net::to_error(problem) : Error(Errc::peer_lost, "the connection ended");
    if (why.message() != last)
      log::warn("coordinator.lost",
                {{"address", context_.options.coordinator}, {"code", name(why.errc())}, {"message", why.message()}});
    last = why.message();
    co_await net::sleep_for(pause);
    pause = std::min(2 * pause, most_pause);
  }
}

net::awaitable<void> CoordinatorLink::serve_once() {
  const auto self = shared_from_this();
  const net::Address address = net::parse_address(context_.options.coordinator);
  net::Connection connection = co_await net::connect(address, context_.tls, context_.options.limits.dial);
  net::require(connection.peer(), "coordinator");
  const auto why = std::make_shared<std::optional<Error>>();
  net::Channel::Handlers handlers{.request =
                                      [self](api::Envelope request) {
                                        self->context_.coordinator_seen = Clock::now();
                                        return answer_coordinator(self->context_, self->migrations_,
                                                                  std::move(request));
                                      },
                                  .notice = {},
                                  .closed = [why](Error e) { *why = std::move(e); }};
  channel_ = net::Channel::start(std::move(connection), std::move(handlers));
  const auto channel = channel_;
  const api::Envelope answer = co_await channel->ask(registration(), register_limit);
  if (!answer.has_registered()) fail(Errc::protocol, "the coordinator does not answer a registration");
  check_version(answer.registered().version(), "the coordinator");
  registered_ = true;
  log::info("coordinator.registered", {{"address", context_.options.coordinator}});
  while (channel->is_open() && !stopped_) {
    co_await net::sleep_for(200ms);
  }
  if (*why) throw Error(**why);
}

api::Envelope CoordinatorLink::registration() const {
  api::Envelope envelope;
  api::Register& r = *envelope.mutable_register_();
  const NodeFacts& facts = context_.facts;
  r.set_version(control_version);
  r.set_node(context_.options.node);
  r.set_peer_address(context_.peer_address);
  r.set_pages_address(context_.options.pages);
  r.set_boot_id(facts.boot_id);
  r.set_store_uuid(context_.records.store_uuid());
  r.set_memory_total(facts.memory_total);
  r.set_memory_available(memory_available());
  r.set_xfeatures(facts.xfeatures);
  r.set_kernel(facts.kernel);
  r.set_cpus(facts.cpus);
  for (const std::string& flag : facts.cpu_flags) r.add_cpu_flags(flag);
  for (api::WorkloadInfo& info : context_.workloads->list()) *r.add_workloads() = std::move(info);
  return envelope;
}

void CoordinatorLink::tell(api::Envelope notice) {
  if (!registered_ || !channel_ || !channel_->is_open()) return;
  net::spawn(context_.executor, "coordinator.tell", channel_->post(std::move(notice)));
}

net::awaitable<api::Envelope> CoordinatorLink::ask(api::Envelope request) {
  const auto self = shared_from_this();
  const auto channel = channel_;
  if (!registered_ || !channel || !channel->is_open()) fail(Errc::peer_lost, "there is no connection to a coordinator");
  co_return co_await channel->ask(std::move(request), ask_limit);
}

void CoordinatorLink::stop() {
  stopped_ = true;
  if (channel_) channel_->close();
}

}  // namespace godwit::service
