#include "coordinator/cli/progress.h"

#include "common/base/units.h"
#include "coordinator/cli/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace godwit::cli {
namespace {

using nlohmann::json;

struct PhaseWords {
  std::string_view phase, words;
};
// Phases that last long enough to be worth a line.
constexpr std::array words_of{
    PhaseWords{"surveying", "looking at the workload"},      PhaseWords{"preparing", "preparing the destination"},
    PhaseWords{"connecting", "connecting the nodes"},        PhaseWords{"freezing", "freezing"},
    PhaseWords{"finishing", "finishing at the destination"}, PhaseWords{"rolling_back", "rolling back"},
    PhaseWords{"asking", "asking both nodes how it ended"},
};

double number(const json& body, const char* member) {
  const auto it = body.find(member);
  return it != body.end() && it->is_number() ? it->get<double>() : 0;
}

constexpr std::size_t width = 79;  // a line that wraps cannot be redrawn

std::string bytes(double n) { return human_bytes(static_cast<std::uint64_t>(std::max(0.0, n))); }

std::string eta(double seconds) {
  const auto s = static_cast<std::uint64_t>(std::llround(std::min(seconds, 359'999.0)));
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

std::string Progress::permanent(const std::string& line) {
  const std::string text = (line_is_open_ ? "\r\x1b[K" : "") + line + "\n";
  line_is_open_ = false;
  return text;
}

std::string Progress::redrawn(std::string line) {
  if (style_ == Style::plain) return {};
  line_is_open_ = true;
  return "\r\x1b[K" + line.substr(0, width);
}

std::string Progress::finish() {
  if (!line_is_open_) return {};
  line_is_open_ = false;
  return "\r\x1b[K";
}

std::string Progress::round_line(const json& body) const {
  const double seconds = number(body, "seconds"), sent = number(body, "bytes");
  return fmt::format("round {:.0f}: {} in {}{}, {} dirty again", number(body, "number"), bytes(sent),
                     human_duration(seconds * 1e3), seconds > 0 ? fmt::format(" ({}/s)", bytes(sent / seconds)) : "",
                     bytes(number(body, "dirty_bytes_after")));
}

std::string Progress::live_line(const json& body, Time now) {
  const auto round = static_cast<std::uint64_t>(number(body, "round"));
  const double sent = number(body, "bytes"), expected = number(body, "expected_bytes");
  if (round != round_) {
    round_ = round;
    first_sign_ = now;
    sent_before_ = sent;
  }
  const double seconds = std::chrono::duration<double>(now - first_sign_).count();
  std::string line = fmt::format("round {}: {}", round, bytes(sent)), rest, share;
  if (expected > 0) {
    line += " of " + bytes(expected);
    share = fmt::format(" ({:.0f} %)", std::min(100.0, 100 * sent / expected));
  }
  // The first sign of a round starts its clock, since watching may begin in the middle of one; a rate needs some time
  // to mean anything.
  if (seconds > 0.2 && sent > sent_before_) {
    const double rate = (sent - sent_before_) / seconds;
    rest += fmt::format("  {}/s", bytes(rate));
    if (expected > sent) rest += "  ETA " + eta((expected - sent) / rate);
  }
  if (predicted_ms_ > 0) rest += fmt::format("  downtime ~{}", human_duration(predicted_ms_));
  // Two numbers tell the share as well; the downtime only this tells.
  if (line.size() + share.size() + rest.size() <= width) line += share;
  return line + rest;
}

std::string Progress::on_event(const std::string& kind, const json& body, Time now) {
  if (kind == "phase") {
    phase_ = body.value("phase", "");
    if (phase_ == "precopy") round_.reset();
    for (const PhaseWords& w : words_of)
      if (w.phase == phase_)
        return style_ == Style::terminal ? redrawn(std::string(w.words) + " ...") : permanent(std::string(w.words));
    return {};
  }
  if (kind == "progress") return phase_ == "precopy" ? redrawn(live_line(body, now)) : std::string();
  if (kind == "round") return permanent(round_line(body));
  if (kind == "decision") {
    predicted_ms_ = number(body, "predicted_downtime_ms");
    if (body.value("action", "") == "freeze")
      return permanent(fmt::format("predicted downtime {}: freezing", human_duration(predicted_ms_)));
    return {};
  }
  if (kind == "over_budget" && body.value("too_slow", false))
    return permanent(fmt::format("the last difference, {}, has not been sent after {}: it runs on",
                                 bytes(number(body, "bytes")), human_duration(number(body, "stopped_ms"))));
  if (kind == "over_budget")
    return permanent(fmt::format("the last difference is {}, {} would keep the budget: it runs on",
                                 bytes(number(body, "bytes")), bytes(number(body, "most_bytes"))));
  if (kind == "throttle")
    return permanent(
        fmt::format("no progress: the workload gets {:.0f} % of its CPU time", number(body, "cpu_percent")));
  if (kind == "rate")
    return permanent(number(body, "rate_limit") > 0 ? fmt::format("rate limit {}/s", bytes(number(body, "rate_limit")))
                                                    : "no rate limit");
  if (kind == "notice") return permanent("note: " + printable(body.value("text", "")));
  if (kind == "fault")
    return permanent("fault while " + printable(body.value("phase", "")) + ": " + printable(body.value("message", "")));
  if (kind == "outcome") return finish();
  return {};
}

}  // namespace godwit::cli
