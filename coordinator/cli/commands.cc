#include "coordinator/cli/commands.h"

#include "coordinator/cli/evacuate.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/migrate.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/resolve.h"
#include "coordinator/cli/simulate.h"
#include "coordinator/cli/user.h"
#include "coordinator/cli/watch.h"

#include <cstdio>

namespace godwit::cli {
namespace {

using nlohmann::json;

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

void show(const Options& options, const json& answer, std::string (*table)(const json&)) {
  print(options.json ? answer.dump(2) + "\n" : table(answer));
}

struct Runner {
  const Options& options;
  Client& client;

  int operator()(const NodesCommand&) const {
    show(options, client.get("/v1/nodes"), nodes_table);
    return exit_done;
  }

  int operator()(const CordonCommand& cordon) const {
    const std::string path = fmt::format("/v1/nodes/{}/{}", cordon.node, cordon.on ? "cordon" : "uncordon");
    const json answer = client.post(path, json::object());
    const std::string words = cordon.on ? fmt::format("{} is cordoned: it takes no new workloads\n", cordon.node)
                                        : fmt::format("{} takes workloads again\n", cordon.node);
    print(options.json ? answer.dump(2) + "\n" : words);
    return exit_done;
  }

  int operator()(const PsCommand&) const {
    show(options, client.get("/v1/workloads"), workloads_table);
    return exit_done;
  }

  int operator()(const PoliciesCommand&) const {
    show(options, client.get("/v1/policies"), policies_table);
    return exit_done;
  }

  int operator()(const RunCommand& run) const {
    const User user = parse_user(run.user);
    const json answer = client.post("/v1/workloads", {{"name", run.name},
                                                      {"node", run.node},
                                                      {"argv", run.argv},
                                                      {"environment", run.environment},
                                                      {"directory", run.directory},
                                                      {"output", run.output},
                                                      {"uid", user.uid},
                                                      {"gid", user.gid}});
    print(options.json ? answer.dump(2) + "\n"
                       : fmt::format("{} runs on {} as PID {}\n", run.name, run.node, answer.value("pid", 0)));
    return exit_done;
  }

  int operator()(const KillCommand& kill) const {
    const json answer =
        client.post("/v1/workloads/" + kill.name + "/kill", {{"signal", kill.signal}, {"node", kill.from}});
    if (options.json) print(answer.dump(2) + "\n");
    return exit_done;
  }

  int operator()(const MigrateCommand& command) const { return migrate(client, command, options.json); }

  int operator()(const EvacuateCommand& command) const { return evacuate(client, command, options.json); }
  int operator()(const WatchCommand& command) const { return watch(client, command, options.json); }
  int operator()(const CancelCommand& command) const { return cancel(client, command, options.json); }
  int operator()(const RateCommand& command) const { return set_rate(client, command, options.json); }

  int operator()(const ResolveCommand& command) const { return resolve(client, command, options.json); }

  int operator()(const SimulateCommand& command) const { return simulate(command, options.json); }

  int operator()(const HistoryCommand& history) const {
    if (const auto report = history.which.empty() ? std::nullopt : report_of(client, history.which)) {
      show(options, *report, migration_report);
      return exit_done;
    }
    const std::string filter = history.which.empty() ? "" : "&workload=" + history.which;
    show(options, client.get(fmt::format("/v1/migrations?limit={}{}", history.limit, filter)), history_table);
    return exit_done;
  }
};

}  // namespace

int exit_code_of(const std::string& outcome) {
  if (outcome == "done" || outcome == "rehearsed") return exit_done;
  if (outcome == "rolled_back") return exit_failed;
  if (outcome == "refused") return exit_refused;
  return exit_unknown;
}

int exit_code_of(const Error& error) {
  if (dynamic_cast<const Unreachable*>(&error)) return exit_unreachable;
  if (error.errc() == Errc::refused) return exit_refused;
  return error.errc() == Errc::invalid_argument ? exit_usage : exit_failed;
}

int run(const Options& options) {
  Client client(options.coordinator, options.certs);
  return std::visit(Runner{options, client}, options.command);
}

}  // namespace godwit::cli
