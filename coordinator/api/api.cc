#include "coordinator/api/api.h"

#include "common/base/log.h"
#include "coordinator/api/body.h"
#include "coordinator/api/requests.h"
#include "coordinator/migration/json.h"

#include <vector>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using net::HttpResponse;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto run_limit = 30s;
constexpr auto kill_limit = 30s;
constexpr auto heartbeat = 10s;  // a watcher that hears nothing for longer takes the stream for dead
constexpr unsigned longest_history = 1000;

json to_json(const WorkloadView& w) {
  return {{"name", w.info.name()},
          {"node", w.node},
          {"state", w.state},
          {"id", w.info.id()},
          {"pid", w.info.pid()},
          {"guest_pid", w.info.guest_pid()},
          {"resident_bytes", w.info.resident_bytes()},
          {"argv", std::vector<std::string>(w.info.argv().begin(), w.info.argv().end())},
          {"started_unix", w.info.started_unix()},
          {"exit_code", w.state == "exited" ? json(w.info.exit_code()) : json()}};
}

std::string event_text(std::int64_t sequence, const std::string& kind, const json& body) {
  const std::string data = body.dump(-1, ' ', false, json::error_handler_t::replace);
  return sequence > 0 ? fmt::format("id: {}\nevent: {}\ndata: {}\n\n", sequence, kind, data)
                      : fmt::format("event: {}\ndata: {}\n\n", kind, data);
}

}  // namespace

awaitable<HttpResponse> Api::handle(net::HttpRequest request) {
  if (request.peer.role != "operator" && request.peer.role != "coordinator")
    throw Error(Errc::denied, fmt::format("{} may not use this API", net::to_string(request.peer)),
                "use a certificate with spiffe://godwit/operator/NAME");
  const std::size_t mark = std::min(request.target.find('?'), request.target.size());
  const std::string path = request.target.substr(0, mark);
  const std::string query = request.target.substr(std::min(mark + 1, request.target.size()));
  const std::vector<std::string_view> parts =
      path.starts_with('/') ? split_path(path) : std::vector<std::string_view>{};
  const bool get = request.method == "GET", post = request.method == "POST";

  if (parts.size() >= 2 && parts[0] == "v1") {
    if (parts[1] == "nodes" && parts.size() == 2 && get) co_return nodes();
    if (parts[1] == "policies" && parts.size() == 2 && get) co_return policies();
    if (parts[1] == "nodes" && parts.size() == 4 && post)
      if (parts[3] == "cordon" || parts[3] == "uncordon")
        co_return cordon(std::string(parts[2]), std::string(parts[3]), request.body, request.peer.name);
    if (parts[1] == "nodes" && parts.size() == 4 && parts[3] == "rate" && post)
      co_return co_await set_node_rate(std::string(parts[2]), std::move(request.body), request.peer.name);
    if (parts[1] == "nodes" && parts.size() == 4 && parts[3] == "evacuate" && post)
      co_return co_await evacuate(std::string(parts[2]), std::move(request.body), request.peer.name);
    if (parts[1] == "nodes" && parts.size() == 4 && parts[3] == "evacuation" && get)
      co_return evacuation(std::string(parts[2]));
    if (parts[1] == "nodes" && parts.size() == 5 && parts[3] == "evacuation" && parts[4] == "cancel" && post)
      co_return cancel_evacuation(std::string(parts[2]), request.body, request.peer.name);
    if (parts[1] == "workloads" && parts.size() == 2 && get) co_return co_await workloads();
    if (parts[1] == "workloads" && parts.size() == 2 && post) co_return co_await run_workload(std::move(request.body));
    if (parts[1] == "workloads" && parts.size() == 4 && parts[3] == "kill" && post)
      co_return co_await kill_workload(std::string(parts[2]), std::move(request.body));
    if (parts[1] == "workloads" && parts.size() == 4 && parts[3] == "resolve" && post)
      co_return co_await resolve_at(std::string(parts[2]), std::move(request.body), request.peer.name);
    if (parts[1] == "migrations" && parts.size() == 2 && get) co_return history(query);
    if (parts[1] == "migrations" && parts.size() == 2 && post) co_return co_await migrate(std::move(request.body));
    if (parts[1] == "migrations" && parts.size() == 3 && parts[2] == "preview" && post)
      co_return co_await preview(std::move(request.body));
    if (parts[1] == "migrations" && parts.size() == 3 && get) co_return migration(std::string(parts[2]));
    if (parts[1] == "migrations" && parts.size() == 4 && parts[3] == "events" && get)
      co_return events(std::string(parts[2]), query);
    if (parts[1] == "migrations" && parts.size() == 4 && parts[3] == "cancel" && post)
      co_return cancel(std::string(parts[2]), request.body, request.peer.name);
    if (parts[1] == "migrations" && parts.size() == 4 && parts[3] == "resolve" && post)
      co_return co_await resolve(std::string(parts[2]), std::move(request.body), request.peer.name);
    if (parts[1] == "migrations" && parts.size() == 4 && parts[3] == "rate" && post)
      co_return co_await set_rate(std::string(parts[2]), std::move(request.body), request.peer.name);
  }
  fail(Errc::not_found, "there is no {} {}", request.method, path.substr(0, 200));
}

HttpResponse Api::nodes() const {
  json list = json::array();
  for (const auto& [name, n] : registry_.nodes())
    list.push_back({{"name", name},
                    {"state", n.up ? "up" : "lost"},
                    {"cordoned", n.cordon.has_value()},
                    {"cordoned_by", n.cordon ? json(n.cordon->by) : json()},
                    {"address", n.channel ? n.channel->address() : ""},
                    {"peer_address", n.info.peer_address()},
                    {"pages_address", n.info.pages_address()},
                    {"kernel", n.info.kernel()},
                    {"cpus", n.info.cpus()},
                    {"memory_total", n.info.memory_total()},
                    {"memory_available", n.info.memory_available()},
                    {"workloads", n.workloads.size()}});
  return answer({{"nodes", list}});
}

HttpResponse Api::policies() const {
  json list = json::array();
  for (const auto& [name, policy] : policies_) list.push_back(coordinator::to_json(name, policy));
  return answer({{"policies", list}});
}

HttpResponse Api::cordon(const std::string& node, const std::string& verb, const std::string& body,
                         const std::string& by) {
  no_members(body, verb.c_str());
  const bool on = verb == "cordon";
  if (on)
    registry_.cordon(node, by);
  else
    registry_.uncordon(node);
  return answer({{"name", node}, {"cordoned", on}});
}

// By value: nodes come and go while somebody is asked.
std::vector<std::string> Api::nodes_up() const {
  std::vector<std::string> up;
  for (const auto& [name, n] : registry_.nodes())
    if (n.up) up.push_back(name);
  return up;
}

awaitable<HttpResponse> Api::workloads() {
  for (const std::string& name : nodes_up()) co_await agents_.refresh(name);
  json list = json::array();
  for (const WorkloadView& w : registry_.workloads()) {
    json one = to_json(w);
    one["migration"] = driver_.active_for(w.info.name());
    list.push_back(std::move(one));
  }
  co_return answer({{"workloads", list}});
}

awaitable<HttpResponse> Api::run_workload(std::string body) {
  RunRequest wanted = run_request(body);
  api::Envelope request;
  api::RunWorkload& run = *request.mutable_run_workload() = std::move(wanted.run);
  const std::string node = std::move(wanted.node);
  for (const WorkloadView& w : registry_.workloads())
    if (w.info.name() == run.name() && w.state != "exited")
      throw Error(Errc::already_exists, fmt::format("workload '{}' is {} on node '{}'", run.name(), w.state, w.node),
                  "choose another name");
  registry_.check_not_cordoned(node);

  const std::shared_ptr<net::Channel> channel = registry_.channel(node);
  const std::string name = run.name();
  const api::Envelope reply = co_await channel->ask(std::move(request), run_limit);
  if (!reply.has_workload()) fail(Errc::protocol, "node '{}' did not say what it started", node);
  registry_.update(node, reply.workload());
  log::info("workload.started", {{"workload", name}, {"node", node}, {"pid", reply.workload().pid()}});
  const WorkloadView view{.node = node, .state = reply.workload().state(), .info = reply.workload()};
  co_return answer(to_json(view), 201);
}

awaitable<HttpResponse> Api::kill_workload(std::string name, std::string body) {
  const KillRequest wanted = kill_request(body);
  api::Envelope request;
  request.mutable_kill_workload()->set_name(name);
  request.mutable_kill_workload()->set_signal(wanted.signal);
  check_name("workload", name);
  const WorkloadView found = registry_.find(name, wanted.node);
  if (const std::string id = driver_.active_for(name); !id.empty())
    throw Error(Errc::busy, fmt::format("workload '{}' is being migrated by {}", name, id), "wait for it to end");
  const std::shared_ptr<net::Channel> channel = registry_.channel(found.node);
  co_await channel->ask(std::move(request), kill_limit);
  log::info("workload.killed", {{"workload", name}, {"node", found.node}});
  co_await agents_.refresh(found.node);
  co_return answer({{"name", name}, {"node", found.node}});
}

awaitable<HttpResponse> Api::migrate(std::string body) {
  MigrationSpec spec = spec_from_json(parse_body(body), &policies_);
  // What the registry heard last may be seconds old: a workload that has just exited or just arrived.
  for (const std::string& node : nodes_up()) co_await agents_.refresh(node);
  const std::string id = driver_.start(std::move(spec));
  co_return answer({{"migration", id}}, 202);
}

HttpResponse Api::history(const std::string& query) const {
  const auto limit = static_cast<unsigned>(number_parameter(query, "limit", 50, longest_history));
  const std::string workload = parameter(query, "workload");
  if (!workload.empty()) check_name("workload", workload);
  if (number_parameter(query, "under_way", 0, 1) == 1) return under_way(workload);
  json list = json::array();
  for (const Migration& m : store_.migrations(limit, workload)) list.push_back(coordinator::to_json(m));
  return answer({{"migrations", list}});
}

HttpResponse Api::under_way(const std::string& workload) const {
  json list = json::array();
  for (const std::string& id : driver_.under_way())
    if (const auto m = store_.migration(id); m && (workload.empty() || m->spec.workload == workload))
      list.push_back(coordinator::to_json(*m));
  return answer({{"migrations", list}});
}

HttpResponse Api::cancel(const std::string& id, const std::string& body, const std::string& by) {
  no_members(body, "cancel");
  migration(id);
  driver_.cancel(id, by);
  return answer({{"migration", id}}, 202);
}

awaitable<HttpResponse> Api::resolve(std::string id, std::string body, std::string by) {
  const Statement statement = resolve_request(body);
  co_await driver_.resolve(id, statement, by);
  co_return answer({{"migration", id}});
}

awaitable<HttpResponse> Api::resolve_at(std::string workload, std::string body, std::string by) {
  const ResolveAt request = resolve_at_request(body);
  co_await driver_.resolve_at(request.node, workload, request.statement, by);
  co_return answer({{"workload", workload}, {"node", request.node}});
}

awaitable<HttpResponse> Api::set_rate(std::string id, std::string body, std::string by) {
  const std::uint64_t rate = rate_request(body);
  migration(id);
  co_await driver_.set_rate(id, rate, std::move(by));
  co_return answer({{"migration", id}, {"rate_limit", rate}});
}

HttpResponse Api::migration(const std::string& id) const {
  const std::optional<Migration> m = store_.migration(id);
  if (!m)
    throw Error(Errc::not_found, fmt::format("no migration '{}'", id.substr(0, 80)), "`godwit history` lists them");
  return answer(coordinator::to_json(*m));
}

HttpResponse Api::events(const std::string& id, const std::string& query) {
  const std::int64_t after = number_parameter(query, "after", 0, INT64_MAX);
  migration(id);
  HttpResponse response{.content_type = "text/event-stream"};
  response.stream = [this, id, after](std::shared_ptr<net::HttpStream> stream) {
    return follow(id, after, std::move(stream));
  };
  return response;
}

// The journal is the queue: a slow watcher reads later, and nothing piles up.
awaitable<void> Api::follow(std::string id, std::int64_t after, std::shared_ptr<net::HttpStream> stream) {
  std::uint64_t seen_progress = 0;
  for (;;) {
    const std::shared_ptr<Run> run = driver_.find(id);
    std::string text;
    for (const StoredEvent& e : store_.events(id, after)) {
      json body = e.body;
      body["at_unix_ms"] = e.at_unix_ms;
      text += event_text(e.sequence, e.kind, body);
      after = e.sequence;
    }
    if (run && run->progress_version() > seen_progress) {
      seen_progress = run->progress_version();
      text += event_text(0, "progress", run->latest_progress());
    }
    if (!text.empty()) {
      co_await stream->write(std::move(text));
      continue;  // there may be news since
    }
    if (!run) co_return;
    const Clock::time_point deadline = Clock::now() + heartbeat;
    if (!co_await run->changed().wait_until(deadline)) co_await stream->write(": still here\n\n");
  }
}

}  // namespace godwit::coordinator
