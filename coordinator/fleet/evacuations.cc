#include "coordinator/fleet/evacuations.h"

#include "common/base/log.h"

namespace godwit::coordinator {

using nlohmann::json;

void Evacuations::check(const EvacuationRequest& request) const {
  registry_.channel(request.node);
  for (const std::string& node : request.to) {
    registry_.node(node);
    if (node == request.node)
      throw Error(Errc::invalid_argument, fmt::format("node '{}' cannot be evacuated to itself", node),
                  "`godwit nodes` lists the others");
  }
}

std::shared_ptr<Evacuation> Evacuations::make(EvacuationRequest request, std::int64_t number) {
  return std::make_shared<Evacuation>(registry_, driver_, store_, agents_, *this, std::move(request), number);
}

std::shared_ptr<Evacuation> Evacuations::prepare(EvacuationRequest request) {
  check(request);
  return make(std::move(request), 0);
}

void Evacuations::launch(const std::string& node, std::shared_ptr<Evacuation> evacuation) {
  evacuations_[node] = evacuation;
  net::spawn(executor_, evacuation->drive(), [evacuation](std::exception_ptr) {});
}

void Evacuations::start(EvacuationRequest request) {
  const std::string node = request.node;
  if (const auto it = evacuations_.find(node); it != evacuations_.end() && !it->second->ended())
    throw Error(Errc::busy, fmt::format("node '{}' is being evacuated already", node),
                fmt::format("`godwit cancel {}` ends that", node));
  check(request);
  for (const auto& [name, known] : registry_.nodes())
    if (known.up) request.present.push_back(name);
  const std::int64_t number = store_.add_evacuation(node, request.by, to_journal(request));
  registry_.read_cordons();
  log::info("evacuation.start", {{"node", node}, {"by", request.by}});
  launch(node, make(std::move(request), number));
}

void Evacuations::resume() {
  for (const StoredEvacuation& stored : store_.evacuations()) {
    if (stored.report) continue;
    log::info("evacuation.resume", {{"node", stored.node}});
    try {
      const std::shared_ptr<Evacuation> made = make(from_journal(stored), stored.number);
      made->take_over(stored);
      launch(stored.node, made);
    } catch (const Error& e) {
      log::error("evacuation.not_resumed", {{"node", stored.node}, {"message", e.message()}});
    }
  }
}

json Evacuations::report(const std::string& node) const {
  if (const auto it = evacuations_.find(node); it != evacuations_.end()) return it->second->report();
  for (const StoredEvacuation& stored : store_.evacuations())
    if (stored.node == node && stored.report) return *stored.report;
  throw Error(Errc::not_found, fmt::format("node '{}' is not being evacuated", node),
              fmt::format("`godwit evacuate {}` begins that", node));
}

Promised Evacuations::promised_to(const std::string& node) const {
  Promised promised;
  for (const std::string& id : driver_.under_way())
    if (const auto run = driver_.find(id); run && run->migration().spec.destination == node)
      promised[run->migration().spec.workload] = run->needed_bytes();
  for (const auto& [from, evacuation] : evacuations_)
    for (const auto& [workload, bytes] : evacuation->promised_to(node))
      promised[workload] = std::max(promised[workload], bytes);
  return promised;
}

void Evacuations::cancel(const std::string& node, const std::string& by) {
  report(node);  // or there never was one
  const auto it = evacuations_.find(node);
  if (it == evacuations_.end() || it->second->ended())
    throw Error(Errc::not_found, fmt::format("the evacuation of node '{}' has ended", node),
                "`godwit ps` shows what is where");
  it->second->cancel(by);
}

}  // namespace godwit::coordinator
