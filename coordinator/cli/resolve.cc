#include "coordinator/cli/resolve.h"

#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/watch.h"

#include <cstdio>
#include <string_view>

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
  throw Error(
      Errc::not_found, fmt::format("no migration '{}', and no workload of that name is being moved", named),
      "`godwit history` lists migrations, `godwit ps` workloads; when the coordinator has lost its journal, name the "
      "node that holds the workload: --at NODE");
}

std::string_view statement_of(const ResolveCommand& command) {
  if (command.go_on) return "go_on";
  if (command.source_is_off) return "source_is_off";
  return command.destination_is_off ? "destination_is_off" : "";
}

// Each of the two statements is of one node, and lets the workload run on the other.
[[noreturn]] void ask_for_a_word(const std::string& workload, const std::string& hint) {
  throw Error(
      Errc::invalid_argument,
      fmt::format("this lets '{}' run again on one node, and needs your word that the other one is off: powered "
                  "off, or rebooted. That its network is cut, or its agent does not answer, is not enough: it may "
                  "run the workload, and two copies corrupt its data",
                  workload),
      hint);
}

// Of what the node itself has: nobody else knows of it.
int resolve_at(Client& client, const ResolveCommand& command, bool json_output) {
  const std::string_view statement = statement_of(command);
  if (statement.empty())
    ask_for_a_word(command.which,
                   fmt::format("see to it that the node to which '{}' was on its way is off, then say so: "
                               "godwit resolve {} --destination-is-off --at {}",
                               command.which, command.which, command.at));
  const json answer = client.post("/v1/workloads/" + command.which + "/resolve",
                                  {{"node", command.at}, {std::string(statement), true}});
  const std::string words = fmt::format("'{}' goes on on node '{}'{}\n", printable(command.which), command.at,
                                        command.go_on ? ", from before what its lost copy has written"
                                                      : "; when the other node returns, what it knows of it is void");
  std::fputs(json_output ? (answer.dump(2) + "\n").c_str() : words.c_str(), stdout);
  return exit_done;
}

}  // namespace

int resolve(Client& client, const ResolveCommand& command, bool json_output) {
  if (!command.at.empty()) return resolve_at(client, command, json_output);
  const json report = find(client, command.which);
  const std::string id = report.at("migration"), from = report.value("from", ""), to = report.value("to", "");
  const std::string_view statement = statement_of(command);
  if (statement.empty())
    ask_for_a_word(
        report.value("workload", ""),
        fmt::format("when node '{1}' is off: godwit resolve {2} --destination-is-off, and it runs on '{0}'; when "
                    "node '{0}' is off: godwit resolve {2} --source-is-off, and it runs on '{1}'",
                    from, to, command.which));
  const json answer = client.post("/v1/migrations/" + id + "/resolve", {{std::string(statement), true}});
  const std::string workload = printable(report.value("workload", ""));
  const std::string &here = command.source_is_off ? to : from, &there = command.source_is_off ? from : to;
  const std::string words =
      command.go_on
          ? fmt::format("'{}' goes on on node '{}', from before what its copy on node '{}' has written\n", workload,
                        from, to)
          : fmt::format("'{}' goes on on node '{}'; when node '{}' returns, what it knows of migration {} is void\n",
                        workload, here, there, id);
  std::fputs(json_output ? (answer.dump(2) + "\n").c_str() : words.c_str(), stdout);
  return exit_done;
}

}  // namespace godwit::cli
