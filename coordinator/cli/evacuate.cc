#include "coordinator/cli/evacuate.h"

#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/fields.h"
#include "coordinator/cli/fleet_report.h"
#include "coordinator/cli/migrate.h"
#include "coordinator/cli/report.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <thread>

namespace godwit::cli {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto look_every = 250ms;
constexpr auto patience = 60s;  // with a coordinator that cannot be reached

volatile sig_atomic_t interrupted = 0;

// From here on the first Ctrl-C is noted, the second one ends us.
void catch_interrupt() {
  struct sigaction action{};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = SA_RESETHAND;
  ::sigaction(SIGINT, &action, nullptr);
}

json evacuation_request(const EvacuateCommand& e) {
  return {{"to", e.to}, {"parallel", e.parallel}, {"dry_run", e.dry_run}, {"options", migration_options(e.options)}};
}

bool any(const json& report, const char* state) {
  return std::ranges::any_of(list(report, "workloads"), [&](const json& w) { return text(w, "state") == state; });
}

std::string path_of(const std::string& node) { return "/v1/nodes/" + node + "/evacuation"; }

// Over the coordinator's restarts. Unreachable when it stays away, not_found when it has another journal.
json follow(Client& client, const std::string& node, bool with_progress) {
  EvacuationProgress progress;
  auto last_heard = Clock::now();
  bool cancelled = false;
  for (;;) {
    try {
      if (interrupted && !cancelled) {
        cancel_evacuation(client, node);
        cancelled = true;
        std::fputs("cancelling: none begins any more, and what can be rolled back is\n", stderr);
      }
      json report = client.get(path_of(node));
      last_heard = Clock::now();
      if (with_progress) std::fputs(progress.on_report(report).c_str(), stderr);
      if (text(report, "state") == "ended") return report;
    } catch (const Unreachable&) {
      if (Clock::now() - last_heard > patience) throw;
    }
    std::this_thread::sleep_for(look_every);
  }
}

void print(const json& report, std::string (*words)(const json&), bool as_json) {
  std::fputs((as_json ? report.dump(2) + "\n" : words(report)).c_str(), stdout);
}

int follow_to_its_end(Client& client, const std::string& node, bool with_progress, bool as_json) {
  json report;
  try {
    report = follow(client, node, with_progress);
  } catch (const Error& e) {
    if (!dynamic_cast<const Unreachable*>(&e) && e.errc() != Errc::not_found) throw;
    std::fprintf(stderr,
                 "godwit: lost sight of the evacuation: %s\nIt goes on when its coordinator is back: `godwit watch %s` "
                 "follows it then.\n",
                 printable(e.message()).c_str(), node.c_str());
    return exit_unknown;
  }
  print(report, evacuation_summary, as_json);
  return exit_code_of_evacuation(report);
}

}  // namespace

int exit_code_of_evacuation(const json& report) {
  if (any(report, "unknown")) return exit_unknown;
  return report.value("empty", json()) == json(true) ? exit_done : exit_failed;
}

std::optional<json> cancel_evacuation(Client& client, const std::string& node) {
  try {
    return client.post("/v1/nodes/" + node + "/evacuation/cancel", json::object());
  } catch (const Error& e) {
    if (e.errc() != Errc::not_found) throw;
  }
  return std::nullopt;
}

std::string EvacuationProgress::on_report(const json& report) {
  if (text(report, "state") == "planning") return {};
  std::string out;
  if (!std::exchange(planned_, true)) out += evacuation_plan(report) + "\n";
  std::size_t moved = 0;
  for (const json& w : list(report, "workloads")) moved += text(w, "state") == "moved";
  for (const json& w : list(report, "workloads")) {
    const std::string name = text(w, "workload"), state = text(w, "state"), to = text(w, "to");
    const auto before = states_.find(name);
    const bool first = before == states_.end();
    if (!first && before->second == state) continue;
    states_[name] = state;
    if (state == "moving") out += fmt::format("{}: moving to {}\n", name, to);
    if (state == "moved")
      out += fmt::format("{}: moved to {} in {}, downtime {} ({} of {})\n", name, to,
                         human_duration(number(w, "total_s") * 1e3), human_duration(number(w, "downtime_ms")), moved,
                         list(report, "workloads").size());
    if (!first && (state == "failed" || state == "stays"))
      out += fmt::format("{}: {}: {}\n", name, state, text(object(w, "reason"), "message"));
  }
  return out;
}

int evacuate(Client& client, const EvacuateCommand& command, bool json_output) {
  catch_interrupt();
  const json begun = client.post("/v1/nodes/" + command.node + "/evacuate", evacuation_request(command));
  if (command.dry_run) {
    print(begun, evacuation_plan, json_output);
    return any(begun, "stays") || any(begun, "unknown") ? exit_refused : exit_done;
  }
  return follow_to_its_end(client, command.node, !command.options.no_progress, json_output);
}

std::optional<int> watch_evacuation(Client& client, const std::string& node, const WatchCommand& command, bool json) {
  try {
    client.get(path_of(node));
  } catch (const Error& e) {
    if (e.errc() != Errc::not_found) throw;
    return std::nullopt;
  }
  return follow_to_its_end(client, node, !command.no_progress, json);
}

}  // namespace godwit::cli
