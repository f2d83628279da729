// What people read about a migration that has not begun, and about an evacuation. As report.h.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace godwit::cli {

std::string preview_report(const nlohmann::json& preview);
std::string evacuation_plan(const nlohmann::json& report);
std::string evacuation_summary(const nlohmann::json& report);

}  // namespace godwit::cli
