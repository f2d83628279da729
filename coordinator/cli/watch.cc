#include "coordinator/cli/watch.h"

#include "common/base/units.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/evacuate.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/progress.h"
#include "coordinator/cli/report.h"

#include <algorithm>
#include <cstdio>
#include <thread>

#include <unistd.h>

namespace godwit::cli {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

// A coordinator that restarts is back well within this; the migration itself goes on without anybody watching.
constexpr auto patience = 60s;
constexpr auto retry_after = 500ms;

// Ends when the migration has settled. Unreachable when the coordinator stays away.
void follow(Client& client, const std::string& id, Progress* progress) {
  std::int64_t seen = 0;
  bool over = false;
  auto last_heard = Clock::now();
  while (!over) {
    try {
      client.follow(fmt::format("/v1/migrations/{}/events?after={}", id, seen), [&](const ServerEvent& e) {
        last_heard = Clock::now();
        seen = std::max(seen, e.id);
        over = over || e.kind == "outcome";
        if (progress) std::fputs(progress->on_event(e.kind, e.body, Clock::now()).c_str(), stderr);
      });
      if (over || !client.get("/v1/migrations/" + id).value("outcome", json()).is_null()) return;
    } catch (const Unreachable&) {
      if (Clock::now() - last_heard > patience) throw;
    }
    std::this_thread::sleep_for(retry_after);
  }
}

// Which may be asked for in the moment in which its coordinator restarts.
json final_report(Client& client, const std::string& id) {
  for (const auto begin = Clock::now();;) {
    try {
      return client.get("/v1/migrations/" + id);
    } catch (const Unreachable&) {
      if (Clock::now() - begin > patience) throw;
    }
    std::this_thread::sleep_for(retry_after);
  }
}

json under_way(Client& client) { return client.get("/v1/migrations?under_way=1").at("migrations"); }

// The id of the migration that moves this workload; empty when none does.
std::string moving(Client& client, const std::string& workload) {
  for (const json& m : under_way(client))
    if (m.value("workload", "") == workload) return m.at("migration");
  return {};
}

// The id of what an operator names: a workload that is being moved, or any migration.
std::string find(Client& client, const std::string& named) {
  if (const std::string id = moving(client, named); !id.empty()) return id;
  if (report_of(client, named)) return named;
  throw Error(Errc::not_found, fmt::format("no migration '{}', and no workload of that name is being moved", named),
              "`godwit history` lists migrations, `godwit ps` workloads");
}

}  // namespace

int follow_to_its_end(Client& client, const std::string& id, const Follow& how) {
  Progress progress(::isatty(STDERR_FILENO) ? Progress::Style::terminal : Progress::Style::plain);
  json report;
  try {
    follow(client, id, how.progress ? &progress : nullptr);
    report = final_report(client, id);
  } catch (const Unreachable& e) {
    std::fputs(progress.finish().c_str(), stderr);
    std::fprintf(stderr,
                 "godwit: lost sight of migration %s: %s\nIt goes on without us; `godwit history` and `godwit ps` tell "
                 "how it ended.\n",
                 id.c_str(), e.what());
    return exit_unknown;
  }
  std::fputs(progress.finish().c_str(), stderr);
  std::fputs(how.json ? (json_report(report).dump(2) + "\n").c_str() : migration_report(report).c_str(), stdout);
  return exit_code_of(report.value("outcome", "unknown"));
}

std::optional<json> report_of(Client& client, const std::string& id) {
  try {
    return client.get("/v1/migrations/" + id);
  } catch (const Error& e) {
    if (e.errc() != Errc::not_found) throw;
  }
  return std::nullopt;
}

std::string only_one(const json& under_way) {
  if (under_way.empty())
    throw Error(Errc::not_found, "no migration is under way", "`godwit history` lists those that have ended");
  if (under_way.size() == 1) return under_way[0].at("migration");
  std::string all;
  for (const json& m : under_way) all += (all.empty() ? "" : "; ") + migration_line(m);
  throw Error(Errc::invalid_argument, fmt::format("{} migrations are under way: {}", under_way.size(), all),
              "name one by its id or its workload");
}

int watch(Client& client, const WatchCommand& command, bool json_output) {
  if (!command.which.empty() && moving(client, command.which).empty() && !report_of(client, command.which))
    if (const auto code = watch_evacuation(client, command.which, command, json_output)) return *code;
  const std::string id = command.which.empty() ? only_one(under_way(client)) : find(client, command.which);
  return follow_to_its_end(client, id, {.progress = !command.no_progress, .json = json_output});
}

int cancel(Client& client, const CancelCommand& command, bool json_output) {
  if (moving(client, command.which).empty())
    if (const auto evacuation = cancel_evacuation(client, command.which)) {
      const std::string words = fmt::format("the evacuation of {} is being ended\n", command.which);
      std::fputs(json_output ? (evacuation->dump(2) + "\n").c_str() : words.c_str(), stdout);
      return exit_done;
    }
  const std::string id = find(client, command.which);
  const json answer = client.post("/v1/migrations/" + id + "/cancel", json::object());
  const std::string words = fmt::format("migration {0} is being rolled back; `godwit watch {0}` follows that\n", id);
  std::fputs(json_output ? (answer.dump(2) + "\n").c_str() : words.c_str(), stdout);
  return exit_done;
}

int set_rate(Client& client, const RateCommand& command, bool json_output) {
  const std::string id = command.node ? command.which : find(client, command.which);
  const std::string target = (command.node ? "/v1/nodes/" : "/v1/migrations/") + id + "/rate";
  const json answer = client.post(target, {{"rate_limit", command.rate_limit}});
  const std::string who = (command.node ? "what leaves node " : "migration ") + id;
  const std::string words =
      command.rate_limit > 0
          ? fmt::format("{} sends {}/s at most\n", who, human_bytes(command.rate_limit))
          : fmt::format("{} sends as fast as {}\n", who, command.node ? "it can" : "its node lets it");
  std::fputs(json_output ? (answer.dump(2) + "\n").c_str() : words.c_str(), stdout);
  return exit_done;
}

}  // namespace godwit::cli
