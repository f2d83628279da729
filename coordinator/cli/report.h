// What people read: tables out of the API's JSON. Pure functions; members that are missing are shown as "-".
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace godwit::cli {

std::string nodes_table(const nlohmann::json& answer);
std::string workloads_table(const nlohmann::json& answer);
std::string policies_table(const nlohmann::json& answer);
std::string history_table(const nlohmann::json& answer);

// Rounds, predicted and measured downtime step by step, total and rate; or why it was not done.
std::string migration_report(const nlohmann::json& report);

// The report as `migrate --json` and `watch --json` print it: stable members, numbers or null.
nlohmann::json json_report(const nlohmann::json& report);

// One that is under way, in a list: "m1 (redis from a to b, precopy)".
std::string migration_line(const nlohmann::json& report);

std::string human_duration(double milliseconds);  // "1.2 ms", "3.4 s", "2:05 min"

// Text of others (names, messages, command lines) without control characters: a terminal obeys them.
std::string printable(std::string text);

}  // namespace godwit::cli
