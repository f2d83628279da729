#include "coordinator/cli/migrate.h"

#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/explanation.h"
#include "coordinator/cli/fleet_report.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/watch.h"

#include <charconv>
#include <cstdio>

namespace godwit::cli {

using nlohmann::json;

json policy_request(const PolicyChoice& choice) {
  using milliseconds = std::chrono::duration<double, std::milli>;
  json body = json::object();
  if (choice.policy) body["policy"] = *choice.policy;
  if (choice.downtime) body["downtime_ms"] = milliseconds(*choice.downtime).count();
  if (choice.max_total_time) body["max_total_s"] = std::chrono::duration<double>(*choice.max_total_time).count();
  if (choice.probe) body["probe_s"] = std::chrono::duration<double>(*choice.probe).count();
  if (choice.max_rounds) body["max_rounds"] = *choice.max_rounds;
  if (choice.on_no_progress) body["on_no_progress"] = *choice.on_no_progress;
  if (choice.if_lost) body["if_lost"] = *choice.if_lost;
  if (choice.rate_limit) body["rate_limit"] = *choice.rate_limit;
  if (!choice.throttle_steps.empty()) body["throttle_steps"] = choice.throttle_steps;
  return body;
}

json migration_options(const MigrateCommand& m) {
  json body{
      {"tcp_close", m.tcp_close}, {"spool_limit", m.spool}, {"streams", m.streams}, {"assume_shared", m.assume_shared}};
  body.update(policy_request(m.policy));
  return body;
}

json migration_request(const MigrateCommand& m) {
  json body = migration_options(m);
  body["to"] = m.to;
  body["from"] = m.from;
  if (m.rehearse) body["rehearse"] = true;
  std::uint32_t pid = 0;
  const auto [end, ec] = std::from_chars(m.workload.data(), m.workload.data() + m.workload.size(), pid);
  if (ec == std::errc{} && end == m.workload.data() + m.workload.size())
    body["pid"] = pid;
  else
    body["workload"] = m.workload;
  return body;
}

int dry_run(Client& client, const MigrateCommand& command, bool json_output) {
  const json preview = client.post("/v1/migrations/preview", migration_request(command));
  std::fputs((json_output ? preview.dump(2) + "\n" : preview_report(preview)).c_str(), stdout);
  return preview.value("would_move", false) ? exit_done : exit_refused;
}

int migrate(Client& client, const MigrateCommand& command, bool json_output) {
  if (command.dry_run) return dry_run(client, command, json_output);
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
    std::fprintf(stderr, "hint: %s\n", printable(hint_or_advice(e.errc(), e.hint())).c_str());
    return exit_refused;
  }
  return follow_to_its_end(client, started.at("migration"), {.progress = !command.no_progress, .json = json_output});
}

}  // namespace godwit::cli
