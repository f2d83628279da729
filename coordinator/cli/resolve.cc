#include "coordinator/cli/resolve.h"

#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/watch.h"

#include <cstdio>

namespace godwit::cli {
namespace {

using nlohmann::json;

// The report of what an operator names: a workload whose migration has not ended, or any migration.
json find(Client& client, const std::string& named) {
  std::string id = named;
  const json reply = client.get("/v1/workloads");
  for (const json& w : reply.at("workloads"))
    if (w.value("name", "") == named && !w.value("migration", "").empty()) id = w.at("migration");
  if (const auto report = report_of(client, id)) return *report;
  throw Error(Errc::not_found, fmt::format("no migration '{}', and no workload of that name is being moved", named),
              "`godwit history` lists migrations, `godwit ps` workloads");
}

}  // namespace

int resolve(Client& client, const ResolveCommand& command, bool json_output) {
  const json report = find(client, command.which);
  const std::string id = report.at("migration"), from = report.value("from", ""), to = report.value("to", "");
  if (!command.destination_is_off && !command.go_on)
    throw Error(
        Errc::invalid_argument,
        fmt::format("this lets '{}' run again on node '{}', and needs your word that node '{}' is off: powered "
                    "off, or rebooted. That its network is cut, or its agent does not answer, is not enough: it "
                    "may run the workload, and two copies corrupt its data",
                    report.value("workload", ""), from, to),
        fmt::format("see to it that node '{}' is off, then say so: godwit resolve {} --destination-is-off", to,
                    command.which));
  const char* statement = command.go_on ? "go_on" : "destination_is_off";
  const json answer = client.post("/v1/migrations/" + id + "/resolve", {{statement, true}});
  const std::string workload = printable(report.value("workload", ""));
  const std::string words =
      command.go_on
          ? fmt::format("'{}' goes on on node '{}', from before what its copy on node '{}' has written\n", workload,
                        from, to)
          : fmt::format("'{}' goes on on node '{}'; when node '{}' returns, what it knows of migration {} is void\n",
                        workload, from, to, id);
  std::fputs(json_output ? (answer.dump(2) + "\n").c_str() : words.c_str(), stdout);
  return exit_done;
}

}  // namespace godwit::cli
