// The HTTPS API: docs/api.md says what each path takes and gives. Only operators (and the coordinator itself) may call.
//
// Errors are {"code", "message", "hint"} with a fitting status; codes are those of docs/errors.md.
#pragma once

#include "common/net/http.h"
#include "coordinator/fleet/evacuations.h"
#include "coordinator/fleet/preview.h"
#include "coordinator/migration/driver.h"
#include "coordinator/migration/policies.h"
#include "coordinator/registry/registry.h"
#include "coordinator/service/agents.h"
#include "coordinator/store/store.h"

namespace godwit::coordinator {

class Api {
 public:
  Api(Store& store, Registry& registry, Driver& driver, AgentService& agents, Evacuations& evacuations,
      const Policies& policies)
      : store_(store),
        registry_(registry),
        driver_(driver),
        agents_(agents),
        policies_(policies),
        previewer_(store, registry, driver),
        evacuations_(evacuations) {}

  net::awaitable<net::HttpResponse> handle(net::HttpRequest request);

 private:
  net::HttpResponse nodes() const;
  net::HttpResponse policies() const;
  net::HttpResponse cordon(const std::string& node, const std::string& verb, const std::string& body,
                           const std::string& by);
  // fleet.cc
  net::awaitable<net::HttpResponse> preview(std::string body);
  net::awaitable<net::HttpResponse> evacuate(std::string node, std::string body, std::string by);
  net::HttpResponse evacuation(const std::string& node) const;
  net::awaitable<net::HttpResponse> set_node_rate(std::string node, std::string body, std::string by);
  net::HttpResponse cancel_evacuation(const std::string& node, const std::string& body, const std::string& by);

  std::vector<std::string> nodes_up() const;
  net::awaitable<net::HttpResponse> workloads();
  net::awaitable<net::HttpResponse> run_workload(std::string body);
  net::awaitable<net::HttpResponse> kill_workload(std::string name, std::string body);
  net::awaitable<net::HttpResponse> migrate(std::string body);
  net::HttpResponse history(const std::string& query) const;
  net::HttpResponse under_way(const std::string& workload) const;
  net::HttpResponse cancel(const std::string& id, const std::string& body, const std::string& by);
  net::awaitable<net::HttpResponse> resolve(std::string id, std::string body, std::string by);
  net::awaitable<net::HttpResponse> resolve_at(std::string workload, std::string body, std::string by);
  net::awaitable<net::HttpResponse> set_rate(std::string id, std::string body, std::string by);
  net::HttpResponse migration(const std::string& id) const;
  net::HttpResponse events(const std::string& id, const std::string& query);
  net::awaitable<void> follow(std::string id, std::int64_t after, std::shared_ptr<net::HttpStream> stream);

  Store& store_;
  Registry& registry_;
  Driver& driver_;
  AgentService& agents_;
  const Policies& policies_;  // may be replaced by newer ones
  Previewer previewer_;
  Evacuations& evacuations_;
};

}  // namespace godwit::coordinator
