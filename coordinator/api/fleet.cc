// The part of the API that is about more than one step of one migration: previews and evacuations.
#include "common/base/log.h"
#include "coordinator/api/api.h"
#include "coordinator/api/body.h"
#include "coordinator/api/requests.h"
#include "coordinator/migration/json.h"

namespace godwit::coordinator {
namespace {

using net::awaitable;
using net::HttpResponse;
using nlohmann::json;

constexpr auto question = std::chrono::seconds(5);

}  // namespace

awaitable<HttpResponse> Api::preview(std::string body) {
  MigrationSpec spec = spec_from_json(parse_body(body), &policies_);
  for (const std::string& node : nodes_up()) co_await agents_.refresh(node);
  const Preview preview = co_await previewer_.preview(std::move(spec));
  co_return answer(coordinator::to_json(preview));
}

awaitable<HttpResponse> Api::evacuate(std::string node, std::string body, std::string by) {
  registry_.node(node);
  EvacuationRequest request = evacuation_request(node, body.empty() ? json::object() : parse_body(body), by, policies_);
  if (!request.dry_run) {
    evacuations_.start(std::move(request));
    co_return answer(evacuations_.report(node), 202);
  }
  const std::shared_ptr<Evacuation> plan = evacuations_.prepare(std::move(request));
  co_await plan->plan();
  co_return answer(plan->report());
}

HttpResponse Api::evacuation(const std::string& node) const { return answer(evacuations_.report(node)); }

// A SetRate for no migration is for all of the node, those to come as well.
awaitable<HttpResponse> Api::set_node_rate(std::string node, std::string body, std::string by) {
  const std::uint64_t rate = rate_request(body);
  const std::shared_ptr<net::Channel> channel = registry_.channel(node);
  api::Envelope request;
  request.mutable_set_rate()->set_rate_limit(rate);
  const api::Envelope reply = co_await channel->ask(std::move(request), question);
  if (!reply.has_ok()) fail(Errc::protocol, "node '{}' does not answer that its rate is set", node);
  driver_.node_rate_changed(node);
  log::info("node.rate", {{"node", node}, {"bytes_per_second", rate}, {"by", by}});
  co_return answer({{"node", node}, {"rate_limit", rate}});
}

HttpResponse Api::cancel_evacuation(const std::string& node, const std::string& body, const std::string& by) {
  no_members(body, "cancel");
  evacuations_.cancel(node, by);
  return answer(evacuations_.report(node), 202);
}

}  // namespace godwit::coordinator
