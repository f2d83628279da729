#include "coordinator/cli/fleet_report.h"

#include "coordinator/cli/explanation.h"
#include "coordinator/cli/fields.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/table.h"

#include <fmt/format.h>

#include <set>

namespace godwit::cli {
namespace {

using nlohmann::json;

std::string milliseconds(const json& of, const char* member) {
  return number(of, member) > 0 ? human_duration(number(of, member)) : "-";
}

std::string seconds(const json& of, const char* member) {
  return number(of, member) > 0 ? human_duration(number(of, member) * 1e3) : "-";
}

std::string what_of(const json& m) {
  const std::string workload = text(m, "workload");
  return workload.empty() ? fmt::format("PID {}", count(m, "pid")) : workload;
}

// Several often have the same: it is said with the first.
class Hints {
 public:
  std::string line(const json& reason, const char* indent) {
    const std::string hint = hint_of(reason);
    return hint.empty() || !said_.insert(hint).second ? "" : fmt::format("{}hint: {}\n", indent, hint);
  }

 private:
  std::set<std::string> said_;
};

std::string reasons(const json& report) {
  Hints hints;
  std::string out;
  for (const json& w : list(report, "workloads")) {
    const json reason = object(w, "reason");
    if (text(reason, "message").empty()) continue;
    out += fmt::format("{}: {} [{}]\n", text(w, "workload"), text(reason, "message"), text(reason, "code"));
    out += hints.line(reason, "  ");
  }
  return out;
}

}  // namespace

std::string preview_report(const json& preview) {
  const bool would = preview.value("would_move", false);
  std::string out = fmt::format("{} from {} to {}: {}\n", what_of(preview), or_dash(text(preview, "from")),
                                text(preview, "to"), would ? "would move" : "would be refused");
  Hints hints;
  for (const json& o : list(preview, "obstacles")) {
    out += fmt::format("  {}: {} [{}]\n", text(o, "where"), text(o, "message"), text(o, "code"));
    out += hints.line(o, "    ");
  }
  for (const json& n : list(preview, "notices"))
    if (n.is_string()) out += "  notice: " + printable(n.get<std::string>()) + "\n";
  const json predicted = object(preview, "predicted");
  if (predicted.empty()) return out;
  return out + fmt::format("resident {}; predicted: {} sent in {}, downtime {} of the {} allowed ({})\n",
                           bytes(number(preview, "resident_bytes")), bytes(number(predicted, "bytes")),
                           seconds(predicted, "total_s"), milliseconds(predicted, "downtime_ms"),
                           human_duration(number(preview, "downtime_budget_ms")), text(predicted, "basis"));
}

std::string evacuation_plan(const json& report) {
  Table table({{"WORKLOAD"}, {"TO"}, {"RESIDENT", true}, {"DOWNTIME", true}, {"DURATION", true}});
  for (const json& w : list(report, "workloads")) {
    const json predicted = object(w, "predicted");
    table.add({text(w, "workload"), or_dash(text(w, "to")), bytes(number(w, "resident_bytes")),
               milliseconds(predicted, "downtime_ms"), seconds(predicted, "total_s")});
  }
  std::string out = fmt::format("evacuating {}: {} workloads, {} at once, predicted to take {}\n", text(report, "node"),
                                list(report, "workloads").size(), count(report, "parallel"),
                                human_duration(number(report, "predicted_total_s") * 1e3));
  if (!list(report, "workloads").empty()) out += table.text("  ");
  return out + reasons(report);
}

std::string evacuation_summary(const json& report) {
  const std::string node = text(report, "node"), by = text(report, "cancelled_by");
  Table table({{"WORKLOAD"},
               {"STATE"},
               {"TO"},
               {"DOWNTIME", true},
               {"PREDICTED", true},
               {"DURATION", true},
               {"SENT", true},
               {"MIGRATION"}});
  std::size_t moved = 0, left = 0;
  for (const json& w : list(report, "workloads")) {
    const std::string state = text(w, "state");
    (state == "moved" ? moved : left)++;
    table.add({text(w, "workload"), state, or_dash(text(w, "to")), milliseconds(w, "downtime_ms"),
               milliseconds(object(w, "predicted"), "downtime_ms"), seconds(w, "total_s"),
               number(w, "bytes") > 0 ? bytes(number(w, "bytes")) : "-", or_dash(text(w, "migration"))});
  }
  std::string out = table.text() + reasons(report);
  if (!report.value("cancelled_by", json()).is_null()) out += "cancelled" + (by.empty() ? "" : " by " + by) + "\n";
  out += fmt::format("{} of {} moved in {}; {} is {}\n", moved, moved + left,
                     human_duration(number(report, "total_s") * 1e3), node,
                     report.value("empty", json()) == json(true) ? "empty" : "not empty");
  if (report.value("cordoned", false))
    out += fmt::format("{0} stays cordoned; `godwit uncordon {0}` lets it take workloads again\n", node);
  return out;
}

}  // namespace godwit::cli
