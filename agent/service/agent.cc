#include "agent/service/agent.h"

#include "agent/service/cgroup_root.h"
#include "agent/service/dispatch.h"
#include "agent/workload/closed_network.h"
#include "common/base/durable_file.h"
#include "common/base/lock_file.h"
#include "common/base/log.h"

#include <filesystem>

#include <sys/prctl.h>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

namespace fs = std::filesystem;

constexpr auto stop_limit = 10s;

// Restored tasks inherit this from whoever forks them: the engine, and so from us.
void check_unrestricted() {
  if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
    throw Error(Errc::invalid_argument, "the agent runs with no_new_privs, which its workloads would inherit",
                "remove NoNewPrivileges= from its service");
  }
  if (::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 0) {
    throw Error(Errc::invalid_argument, "the agent runs with a seccomp filter, which its workloads would inherit",
                "remove SystemCallFilter= and whatever implies one from its service");
  }
  if (::geteuid() != 0) fail(Errc::denied, "the agent must run as root");
}

// What the records say is known to one agent only, which writes them whole.
UniqueFd lock_state(const std::string& state) {
  fs::create_directories(state);
  UniqueFd lock = take_lock(state + "/agent.lock");
  if (!lock)
    throw Error(Errc::busy, fmt::format("another agent runs with the state in {}", state),
                "stop that one first, or give this one a --state of its own");
  return lock;
}

Context make_context(net::Executor executor, AgentOptions options) {
  check_unrestricted();
  UniqueFd lock = lock_state(options.state);
  net::TlsContext tls = net::TlsContext::load(options.certs);
  net::require(tls.self(), "agent", options.node);
  for (const char* part : {"", "/homes", "/jobs", "/limits", "/workloads"}) {
    fs::create_directories(options.state + part);
    remove_unfinished(options.state + part);
  }
  Records records = Records::open(options.state + "/records", options.record_slots);
  NodeFacts facts = read_facts();
  keep_cgroup_root(options.state + "/cgroup", facts.boot_id, workload::Cgroup::create(options.cgroup));
  const auto rate = std::make_shared<NodeRate>(options.rate_limit);
  const auto lifting = std::make_shared<Lifting>(executor, options.limits.ask_interval);
  const auto homecoming = std::make_shared<Homecoming>(executor, options.limits.ask_interval);
  return {.lock = std::move(lock),
          .options = std::move(options),
          .executor = executor,
          .tls = std::move(tls),
          .facts = std::move(facts),
          .records = std::move(records),
          .rate = rate,
          .lifting = lifting,
          .homecoming = homecoming};
}

std::string advertised(const std::string& listen, std::uint16_t port) {
  net::Address address = net::parse_address(listen);
  address.port = std::to_string(port);
  return net::to_string(address);
}

}  // namespace

Agent::Agent(net::Executor executor, AgentOptions options, std::string trackers)
    : trackers_path_(std::move(trackers)),
      context_(make_context(executor, std::move(options))),
      migrations_(context_),
      coordinator_(std::make_shared<CoordinatorLink>(context_, migrations_)) {
  const AgentOptions& o = context_.options;
  workload::WorkloadsPlan plan{
      .directory = o.state + "/workloads", .cgroup = o.cgroup, .init = context_.program("godwit-init")};
  context_.workloads = std::make_unique<workload::Workloads>(
      executor, std::move(plan), [this](api::WorkloadInfo info) { tell_exited(std::move(info)); });
  context_.tell_coordinator = [this](api::Envelope notice) { coordinator_->tell(std::move(notice)); };
  context_.ask_coordinator = [this](api::Envelope request) { return coordinator_->ask(std::move(request)); };
}

Agent::~Agent() = default;

net::awaitable<void> Agent::start() {
  const AgentOptions& o = context_.options;
  context_.workloads->load();
  listener_.emplace(context_.executor, "peers", net::parse_address(o.listen), context_.tls);
  context_.peer_address = advertised(o.listen, listener_->endpoint().port());
  migrations_.end_leftovers();
  context_.network_stays_open = workload::why_network_stays_open(o.cgroup);
  if (!context_.network_stays_open.empty())
    log::warn("agent.network_stays_open", {{"message", context_.network_stays_open}});
  jobs::PageServerPlan pages{.program = context_.program("godwit-pageserver"),
                             .listen = o.pages,
                             .certs = o.certs,
                             .user = o.page_server_user,
                             .cgroup = context_.cgroup("jobs/pageserver")};
  context_.pages = jobs::PageServer::start(context_.executor, std::move(pages));
  co_await migrations_.recover();
  listener_->start([this](net::Connection c) { return serve_peer(context_, migrations_, std::move(c)); });
  if (!trackers_path_.empty()) {
    trackers_.emplace(context_, trackers_path_);
    net::spawn(context_.executor, "trackers", trackers_->serve());
  }
  log::info("agent.serving", {{"node", o.node}, {"peers", context_.peer_address}, {"pages", o.pages}});
  if (!o.coordinator.empty()) net::spawn(context_.executor, "coordinator.link", coordinator_->run());
}

net::awaitable<void> Agent::stop() {
  log::info("agent.stopping", {{"node", context_.options.node}});
  listener_->close();
  if (trackers_) trackers_->close();
  co_await migrations_.stop(stop_limit);
  coordinator_->stop();
  if (context_.pages) co_await context_.pages->stop();
}

void Agent::tell_exited(api::WorkloadInfo info) {
  api::Envelope notice;
  *notice.mutable_workload_exited()->mutable_workload() = std::move(info);
  coordinator_->tell(std::move(notice));
}

}  // namespace godwit::service
