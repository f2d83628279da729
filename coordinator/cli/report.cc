#include "coordinator/cli/report.h"

#include "coordinator/cli/explanation.h"
#include "coordinator/cli/fields.h"
#include "coordinator/cli/table.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>

namespace godwit::cli {
namespace {

using nlohmann::json;

std::string per_second(double n, double seconds) { return seconds > 0 ? bytes(n / seconds) + "/s" : "-"; }

std::string what_moved(const json& m) {
  const std::string workload = text(m, "workload");
  return workload.empty() ? fmt::format("PID {}", count(m, "pid")) : workload;
}

std::string ended(const std::string& outcome) {
  if (outcome == "done") return "done";
  if (outcome == "rolled_back") return "failed and rolled back";
  if (outcome == "refused") return "refused";
  if (outcome == "rehearsed") return "rehearsed";
  return "outcome unknown";
}

std::string way(const json& m) {
  return fmt::format("{} from {} to {}", what_moved(m), text(m, "from"), text(m, "to"));
}

std::string state(const json& m) {
  const std::string outcome = text(m, "outcome");
  if (outcome.empty()) return "under way, " + text(m, "phase");
  return fmt::format("{} in {}", ended(outcome), human_duration(number(m, "total_s") * 1e3));
}

std::string rounds_table(const json& report) {
  Table table({{"round", true},
               {"pages", true},
               {"sent", true},
               {"duration", true},
               {"rate", true},
               {"dirty after", true},
               {"dirty rate", true}});
  for (const json& r : list(report, "rounds")) {
    const double seconds = number(r, "seconds");
    const bool final = r.value("final", false);
    table.add({final ? "final" : std::to_string(count(r, "number")), std::to_string(count(r, "pages")),
               bytes(number(r, "bytes")), human_duration(seconds * 1e3), per_second(number(r, "bytes"), seconds),
               final ? "" : bytes(number(r, "dirty_bytes_after")),
               final ? "" : per_second(number(r, "dirty_bytes_after"), seconds)});
  }
  return table.text("  ");
}

std::string downtime_table(const json& report) {
  const double downtime = number(report, "downtime_ms");
  const char* what = text(report, "outcome") == "rehearsed" ? "downtime would have been" : "downtime";
  std::string out = fmt::format("{} {}, predicted {}, budget {}\n", what, human_duration(downtime),
                                human_duration(number(report, "predicted_downtime_ms")),
                                human_duration(number(report, "downtime_budget_ms")));
  Table table({{"step"}, {"time", true}, {"share", true}});
  const json steps = report.value("downtime_steps_ms", json::object());
  for (const json& step : list(report, "downtime_steps_order")) {
    const std::string name = step.get<std::string>();
    const double ms = number(steps, name.c_str());
    table.add({printable(name), human_duration(ms), downtime > 0 ? fmt::format("{:.0f} %", 100 * ms / downtime) : ""});
  }
  return out + table.text("  ");
}

}  // namespace

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

std::string human_duration(double ms) {
  if (ms < 0) return "-" + human_duration(-ms);
  if (ms < 10) return fmt::format("{:.2f} ms", ms);
  if (ms < 1000) return fmt::format("{:.1f} ms", ms);
  if (ms < 120'000) return fmt::format("{:.2f} s", ms / 1e3);
  const auto seconds = static_cast<std::uint64_t>(ms / 1e3);
  return fmt::format("{}:{:02} min", seconds / 60, seconds % 60);
}

std::string nodes_table(const json& answer) {
  Table table({{"NODE"},
               {"STATE"},
               {"WORKLOADS", true},
               {"CPUS", true},
               {"MEMORY", true},
               {"AVAILABLE", true},
               {"KERNEL"},
               {"ADDRESS"}});
  for (const json& n : list(answer, "nodes"))
    table.add({text(n, "name"), text(n, "state") + (n.value("cordoned", false) ? ", cordoned" : ""),
               std::to_string(count(n, "workloads")), std::to_string(count(n, "cpus")),
               bytes(number(n, "memory_total")), bytes(number(n, "memory_available")), or_dash(text(n, "kernel")),
               or_dash(text(n, "peer_address"))});
  return table.text();
}

std::string workloads_table(const json& answer) {
  Table table({{"WORKLOAD"},
               {"NODE"},
               {"STATE"},
               {"PID", true},
               {"INSIDE", true},
               {"RESIDENT", true},
               {"MIGRATION"},
               {"COMMAND"}});
  for (const json& w : list(answer, "workloads")) {
    std::string command;
    for (const json& a : list(w, "argv"))
      if (a.is_string() && command.size() < 60) command += (command.empty() ? "" : " ") + a.get<std::string>();
    std::string state = text(w, "state");
    if (state == "exited") state += fmt::format(" ({})", static_cast<int>(number(w, "exit_code")));
    table.add({text(w, "name"), text(w, "node"), state, std::to_string(count(w, "pid")),
               std::to_string(count(w, "guest_pid")), bytes(number(w, "resident_bytes")), or_dash(text(w, "migration")),
               printable(command)});
  }
  return table.text();
}

std::string policies_table(const json& answer) {
  Table table({{"POLICY"},
               {"DOWNTIME", true},
               {"ROUNDS", true},
               {"TOTAL TIME", true},
               {"RATE LIMIT", true},
               {"ON NO PROGRESS"},
               {"ABOUT"}});
  for (const json& p : list(answer, "policies")) {
    const double total_s = number(p, "max_total_s"), limit = number(p, "rate_limit");
    table.add({text(p, "name"), human_duration(number(p, "downtime_ms")), std::to_string(count(p, "max_rounds")),
               total_s > 0 ? human_duration(total_s * 1e3) : "-", limit > 0 ? bytes(limit) + "/s" : "-",
               text(p, "on_no_progress"), text(p, "about")});
  }
  return table.text();
}

std::string history_table(const json& answer) {
  Table table({{"MIGRATION"},
               {"STARTED (UTC)"},
               {"WORKLOAD"},
               {"FROM"},
               {"TO"},
               {"OUTCOME"},
               {"PREDICTED", true},
               {"DOWNTIME", true},
               {"TOTAL", true},
               {"SENT", true},
               {"REASON"}});
  for (const json& m : list(answer, "migrations")) {
    const std::chrono::system_clock::time_point started{std::chrono::milliseconds(count(m, "created_unix_ms"))};
    const json reason = m.contains("reason") && m["reason"].is_object() ? m["reason"] : json::object();
    table.add({text(m, "migration"), fmt::format("{:%F %T}", fmt::gmtime(started)), what_moved(m), text(m, "from"),
               text(m, "to"), text(m, "outcome").empty() ? text(m, "phase") : text(m, "outcome"),
               number(m, "predicted_downtime_ms") > 0 ? human_duration(number(m, "predicted_downtime_ms")) : "-",
               number(m, "downtime_ms") > 0 ? human_duration(number(m, "downtime_ms")) : "-",
               human_duration(number(m, "total_s") * 1e3), bytes(number(m, "bytes")),
               text(reason, "message").substr(0, 80)});
  }
  return table.text();
}

json json_report(const json& report) {
  json out;
  for (const char* member :
       {"migration", "workload", "from", "to", "outcome", "reason", "notices", "downtime_ms", "predicted_downtime_ms",
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

std::string migration_line(const json& report) {
  return fmt::format("{} ({}, {})", text(report, "migration"), way(report), text(report, "phase"));
}

std::string migration_report(const json& report) {
  const std::string outcome = text(report, "outcome");
  std::string out = fmt::format("{}: {} (migration {})\n", way(report), state(report), text(report, "migration"));
  if (report.contains("reason") && report["reason"].is_object()) {
    const json& reason = report["reason"];
    out += fmt::format("reason: {} [{}]\n", text(reason, "message"), text(reason, "code"));
    if (const std::string hint = hint_of(reason); !hint.empty()) out += "hint: " + hint + "\n";
  }
  for (const json& notice : list(report, "notices"))
    if (notice.is_string()) out += "note: " + printable(notice.get<std::string>()) + "\n";
  if (!list(report, "rounds").empty()) out += "\n" + rounds_table(report);
  if (number(report, "downtime_ms") > 0) out += "\n" + downtime_table(report);
  if (!list(report, "rounds").empty())
    out += fmt::format("\nsent {} at {:.2f} GB/s\n", bytes(number(report, "bytes")), number(report, "gb_per_s"));
  if (outcome == "rehearsed")
    out += fmt::format("\nEverything is as before: it runs at {}, and nothing of it is left at {}.\n",
                       text(report, "from"), text(report, "to"));
  if (outcome == "unknown")
    out +=
        "\nNothing is decided by guessing: `godwit ps` shows where the workload is once both nodes can be reached.\n";
  return out;
}

}  // namespace godwit::cli
