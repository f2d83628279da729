#include "coordinator/simulation/trace.h"

#include "coordinator/json_file.h"
#include "coordinator/json_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using Point = DirtyCurve::Point;

constexpr std::size_t most_points = 10'000;
constexpr std::size_t most_loads = 10'000;
constexpr std::uint64_t most_memory = std::uint64_t{1} << 50;
constexpr double longest_s = 1e7;

const json& array_of(const json& body, const char* member, std::size_t most, const std::string& what) {
  const auto it = body.find(member);
  if (it == body.end() || !it->is_array() || it->empty() || it->size() > most)
    fail(Errc::invalid_argument, "{}: '{}' must be an array of 1 to {} entries", what, member, most);
  return *it;
}

DirtyCurve curve_from_json(const json& load, std::uint64_t memory_bytes, const std::string& what) {
  std::vector<Point> points;
  for (const json& point : array_of(load, "dirty", most_points, what)) {
    const std::string where = fmt::format("{}, point {}", what, points.size());
    JsonReader in(point, where);
    const double seconds = in.real("seconds", 0, 0, longest_s);
    const std::uint64_t bytes = in.number("bytes", 0, 0, memory_bytes);
    in.end();
    points.push_back({.seconds = seconds, .bytes = static_cast<double>(bytes)});
  }
  try {
    return DirtyCurve(std::move(points));
  } catch (const Error& e) {
    throw Error(e.errc(), what + ": " + e.message());
  }
}

// Rounds scatter and a workload has its ups and downs, so the points of a report are smoothed: a longer interval
// dirties no less. The round that the source made by itself, just before the freeze, says nothing of what it left.
Trace trace_from_report(const json& report, const std::string& what) {
  std::vector<Point> points;
  std::uint64_t memory_bytes = 0;
  for (const json& entry : array_of(report, "rounds", most_points, what)) {
    JsonReader in(entry, fmt::format("{}, round {}", what, points.size()));
    const double seconds = in.real("seconds", 0, 0, longest_s);
    const std::uint64_t bytes = in.number("bytes", 0, 0, most_memory);
    const std::uint64_t dirty = in.number("dirty_bytes_after", 0, 0, most_memory);
    if (memory_bytes == 0) memory_bytes = bytes;
    if (!in.flag("final", false) && seconds > 0 && dirty > 0)
      points.push_back({.seconds = seconds, .bytes = static_cast<double>(dirty)});
    memory_bytes = std::max(memory_bytes, dirty);
  }
  if (points.empty()) points.push_back({.seconds = 1, .bytes = 0});
  if (memory_bytes == 0) fail(Errc::invalid_argument, "{}: the migration sent nothing", what);
  std::ranges::sort(points, {}, &Point::seconds);
  std::vector<Point> growing;
  for (const Point& p : points) {
    const double bytes = growing.empty() ? p.bytes : std::max(p.bytes, growing.back().bytes);
    if (!growing.empty() && p.seconds <= growing.back().seconds)
      growing.back().bytes = bytes;
    else
      growing.push_back({.seconds = p.seconds, .bytes = bytes});
  }
  const auto id = report.find("migration");
  const std::string about =
      id != report.end() && id->is_string() ? "the rounds of migration " + id->get<std::string>() : "rounds";
  return {.about = about, .memory_bytes = memory_bytes, .loads = {{.from_s = 0, .dirty = DirtyCurve(growing)}}};
}

}  // namespace

DirtyCurve::DirtyCurve(std::vector<Point> points) : points_{{}} {
  for (const Point& p : points) {
    if (!(p.seconds > points_.back().seconds))
      fail(Errc::invalid_argument, "the seconds of points must grow, and begin above 0");
    if (!(p.bytes >= points_.back().bytes)) fail(Errc::invalid_argument, "what is dirty must not shrink with time");
    points_.push_back(p);
  }
  if (points_.size() < 2) fail(Errc::invalid_argument, "a curve needs a point");
}

double DirtyCurve::after(double seconds) const {
  // The segment that `seconds` lies on; the last one goes on.
  auto to = std::ranges::lower_bound(points_, seconds, {}, &Point::seconds);
  if (to == points_.begin()) return 0;
  if (to == points_.end()) --to;
  const Point &a = *(to - 1), &b = *to;
  return a.bytes + (b.bytes - a.bytes) * (seconds - a.seconds) / (b.seconds - a.seconds);
}

double DirtyCurve::seconds_until(double bytes) const {
  if (bytes <= 0) return 0;
  auto to = std::ranges::lower_bound(points_, bytes, {}, &Point::bytes);
  if (to == points_.end()) --to;
  const Point &a = *(to - 1), &b = *to;
  if (b.bytes <= a.bytes) return std::numeric_limits<double>::infinity();
  return a.seconds + (bytes - a.bytes) * (b.seconds - a.seconds) / (b.bytes - a.bytes);
}

DirtyCurve sweep(double bytes_per_s, double set_bytes) {
  if (bytes_per_s <= 0 || set_bytes <= 0) return DirtyCurve({{.seconds = 1, .bytes = 0}});
  const double once = set_bytes / bytes_per_s;
  return DirtyCurve({{.seconds = once, .bytes = set_bytes}, {.seconds = 2 * once, .bytes = set_bytes}});
}

double Trace::dirty_after(double from_s, double seconds) const {
  const double end = from_s + seconds;
  double dirty = 0;
  for (std::size_t i = 0; i < loads.size(); i++) {
    const double until = i + 1 < loads.size() ? std::min(end, loads[i + 1].from_s) : end;
    const double here = until - std::max(from_s, loads[i].from_s);
    if (here <= 0) continue;
    // Goes on from the place of this load's curve at which as much is dirty.
    const double place = loads[i].dirty.seconds_until(dirty);
    if (std::isfinite(place)) dirty = std::max(dirty, loads[i].dirty.after(place + here));
  }
  return std::min(dirty, static_cast<double>(memory_bytes));
}

Trace trace_from_json(const json& body, const std::string& what) {
  if (body.is_object() && body.contains("rounds")) return trace_from_report(body, what);
  JsonReader in(body, what);
  Trace trace{.about = in.text("about"), .memory_bytes = in.number("memory_bytes", 0, 1, most_memory), .loads = {}};
  if (trace.memory_bytes == 0) fail(Errc::invalid_argument, "{}: 'memory_bytes' is missing", what);
  in.skip("loads");
  in.end();
  for (const json& entry : array_of(body, "loads", most_loads, what)) {
    const std::string where = fmt::format("{}, load {}", what, trace.loads.size());
    JsonReader load(entry, where);
    const double from_s = load.real("from_s", 0, 0, longest_s);
    load.skip("dirty");
    load.end();
    if (trace.loads.empty() ? from_s != 0 : from_s <= trace.loads.back().from_s)
      fail(Errc::invalid_argument, "{}: 'from_s' must be 0 for the first load and grow", where);
    trace.loads.push_back({.from_s = from_s, .dirty = curve_from_json(entry, trace.memory_bytes, where)});
  }
  return trace;
}

Trace read_trace(const std::string& path) { return trace_from_json(read_json_file(path), path); }

}  // namespace godwit::coordinator
