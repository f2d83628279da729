// Live progress of one migration: on a terminal one line that is redrawn, with a line left behind for every round;
// elsewhere plain lines only. Takes events, gives text; knows no clock but what is handed in.
#pragma once

#include <nlohmann/json.hpp>

#include <chrono>
#include <optional>
#include <string>

namespace godwit::cli {

class Progress {
 public:
  using Time = std::chrono::steady_clock::time_point;

  enum class Style { terminal = 1, plain };
  explicit Progress(Style style) : style_(style) {}

  // What to print for an event of the migration; often nothing.
  std::string on_event(const std::string& kind, const nlohmann::json& body, Time now);

  // Clears the line that is being redrawn.
  std::string finish();

 private:
  std::string permanent(const std::string& line);
  std::string redrawn(std::string line);
  std::string round_line(const nlohmann::json& body) const;
  std::string live_line(const nlohmann::json& body, Time now);

  Style style_;
  std::string phase_;
  double predicted_ms_ = 0;
  bool line_is_open_ = false;
  std::optional<std::uint64_t> round_;
  Time first_sign_{};  // of the round, and what had been sent by then
  double sent_before_ = 0;
};

}  // namespace godwit::cli
