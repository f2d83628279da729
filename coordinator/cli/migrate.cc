#include "coordinator/cli/migrate.h"

#include "coordinator/cli/commands.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/progress.h"
#include "coordinator/cli/report.h"

#include <algorithm>
#include <charconv>
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
void watch(Client& client, const std::string& id, Progress* progress) {
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

}  // namespace

json migration_request(const MigrateCommand& m) {
  json body{{"to", m.to},
            {"from", m.from},
            {"tcp_close", m.tcp_close},
            {"spool_limit", m.spool},
            {"streams", m.streams},
            {"rate_limit", m.rate_limit},
            {"assume_shared", m.assume_shared},
            {"downtime_ms", std::chrono::duration<double, std::milli>(m.downtime).count()},
            {"max_rounds", m.max_rounds},
            {"max_total_s", std::chrono::duration<double>(m.max_total_time).count()},
            {"on_no_progress", m.on_no_progress}};
  std::uint32_t pid = 0;
  const auto [end, ec] = std::from_chars(m.workload.data(), m.workload.data() + m.workload.size(), pid);
  if (ec == std::errc{} && end == m.workload.data() + m.workload.size())
    body["pid"] = pid;
  else
    body["workload"] = m.workload;
  return body;
}

json json_report(const json& report) {
  json out;
  for (const char* member :
       {"migration", "workload", "from", "to", "outcome", "reason", "downtime_ms", "predicted_downtime_ms",
        "downtime_budget_ms", "downtime_steps_ms", "downtime_steps_order", "total_s", "gb_per_s", "bytes"})
    out[member] = report.value(member, json());
  out["rounds"] = json::array();
  for (const json& r : report.value("rounds", json::array()))
    out["rounds"].push_back({{"pages", r.value("pages", 0u)},
                             {"bytes", r.value("bytes", std::uint64_t{0})},
                             {"seconds", r.value("seconds", 0.0)},
                             {"dirty_bytes_after", r.value("dirty_bytes_after", std::uint64_t{0})},
                             {"final", r.value("final", false)}});
  return out;
}

int migrate(Client& client, const MigrateCommand& command, bool json_output) {
  json started;
  try {
    started = client.post("/v1/migrations", migration_request(command));
  } catch (const Unreachable&) {
    throw;
  } catch (const Error& e) {
    // Nothing was touched: the coordinator did not let it begin.
    if (e.errc() == Errc::invalid_argument) throw;
    if (json_output) {
      const json refused{{"outcome", "refused"},
                         {"reason", {{"code", name(e.errc())}, {"message", e.message()}, {"hint", e.hint()}}}};
      std::puts(json_report(refused).dump(2).c_str());
    }
    std::fprintf(stderr, "godwit: %s\n", printable(e.message()).c_str());
    if (!e.hint().empty()) std::fprintf(stderr, "hint: %s\n", printable(e.hint()).c_str());
    return exit_refused;
  }
  const std::string id = started.at("migration");
  Progress progress(::isatty(STDERR_FILENO) ? Progress::Style::terminal : Progress::Style::plain);
  json report;
  try {
    watch(client, id, command.no_progress ? nullptr : &progress);
    report = client.get("/v1/migrations/" + id);
  } catch (const Unreachable& e) {
    std::fputs(progress.finish().c_str(), stderr);
    std::fprintf(stderr,
                 "godwit: lost sight of migration %s: %s\nIt goes on without us; `godwit history` and `godwit ps` tell "
                 "how it ended.\n",
                 id.c_str(), e.what());
    return exit_unknown;
  }
  std::fputs(progress.finish().c_str(), stderr);
  std::fputs(json_output ? (json_report(report).dump(2) + "\n").c_str() : migration_report(report).c_str(), stdout);
  return exit_code_of(report.value("outcome", "unknown"));
}

}  // namespace godwit::cli
