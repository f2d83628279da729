// What a workload writes, as a simulation needs it: how much is dirty some time after nothing was.
//
// A write rate alone would not be honest: redis writes the same pages again and again, so ten seconds dirty far less
// than ten times as much as one. A trace therefore holds measured points of "dirty bytes after so many seconds", from a
// fraction of a second up to a long round, and such a curve for each time at which the load is another. docs/policy.md
// describes the file.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::coordinator {

// Straight between its points, from nothing at 0 s; behind the last one it goes on as it came.
class DirtyCurve {
 public:
  struct Point {
    double seconds = 0;
    double bytes = 0;
  };
  // Points by growing time, bytes that do not fall. Errc::invalid_argument.
  explicit DirtyCurve(std::vector<Point> points);

  double after(double seconds) const;
  double seconds_until(double bytes) const;  // infinity: never

 private:
  std::vector<Point> points_;  // the first one is (0, 0)
};

// Writes page after page of `set_bytes` and begins again: no writer of that rate dirties more.
DirtyCurve sweep(double bytes_per_s, double set_bytes);

struct Trace {
  struct Load {
    double from_s = 0;
    DirtyCurve dirty;
  };
  std::string about;
  std::uint64_t memory_bytes = 0;
  std::vector<Load> loads;  // by time, the first one from 0; the last one lasts

  // When nothing is dirty at `from_s`.
  double dirty_after(double from_s, double seconds) const;
};

// A trace, or the report of a migration (`godwit history ID --json`), whose rounds are points of one curve. `what` is
// named in the Errc::invalid_argument of anything else.
Trace trace_from_json(const nlohmann::json& body, const std::string& what);
Trace read_trace(const std::string& path);  // not_found, invalid_argument

}  // namespace godwit::coordinator
