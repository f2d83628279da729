#include "coordinator/fleet/forecast.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

constexpr std::size_t most_considered = 5;  // what was longer ago tells little about today's load

// Before anything was measured: a gigabit link, and a pause as the driver expects it at first.
constexpr double default_rate = 110e6;
constexpr std::int64_t default_downtime_ns = 50'000'000;
constexpr double default_setup_s = 0.5;  // surveys, checks, connections, the end

bool telling(const Migration& m) {
  return m.outcome == Outcome::done && m.downtime_ns > 0 && !m.rounds.empty() && m.rounds.front().bytes > 0;
}

double seconds_of_rounds(const Migration& m) {
  double seconds = 0;
  for (const RoundRecord& r : m.rounds) seconds += r.seconds;
  return seconds;
}

// Of a few numbers that scatter, the one in the middle: one hiccup does not count.
double median(std::vector<double> numbers) {
  std::ranges::sort(numbers);
  return numbers[numbers.size() / 2];
}

template <class Of>
double median_of(const std::vector<const Migration*>& some, Of of) {
  std::vector<double> numbers;
  for (const Migration* m : some) numbers.push_back(of(*m));
  return median(std::move(numbers));
}

template <class Is>
std::vector<const Migration*> last_few(const std::vector<Migration>& past, Is is) {
  std::vector<const Migration*> found;
  for (const Migration& m : past)
    if (found.size() < most_considered && telling(m) && is(m)) found.push_back(&m);
  return found;
}

}  // namespace

Forecast forecast(const MigrationSpec& spec, std::uint64_t resident_bytes, const std::vector<Migration>& past) {
  const auto of_workload =
      last_few(past, [&](const Migration& m) { return !spec.workload.empty() && m.spec.workload == spec.workload; });
  const auto same_way = last_few(
      past, [&](const Migration& m) { return m.spec.source == spec.source && m.spec.destination == spec.destination; });
  Forecast f;
  const auto resident = static_cast<double>(resident_bytes);
  // How much a workload writes while it moves is its own; what the path carries is the path's.
  double bytes = resident;
  if (!of_workload.empty())
    bytes *= median_of(of_workload, [](const Migration& m) {
      return static_cast<double>(total_bytes(m)) / static_cast<double>(m.rounds.front().bytes);
    });
  const auto& on_path = same_way.empty() ? of_workload : same_way;
  double rate = on_path.empty() ? default_rate : median_of(on_path, transfer_rate);
  if (rate <= 0) rate = default_rate;
  // Those that had a share of the path only, or were not to use it all, tell less than it carries.
  f.path_rate = rate;
  for (const Migration* m : on_path) f.path_rate = std::max(f.path_rate, transfer_rate(*m));
  if (spec.rate_limit > 0) rate = std::min(rate, static_cast<double>(spec.rate_limit));
  const auto setup_of = [](const Migration& m) { return std::max(0.0, m.total_s - seconds_of_rounds(m)); };
  const double setup = on_path.empty() ? default_setup_s : median_of(on_path, setup_of);
  const bool all_at_once = spec.policy.max_rounds == 0;
  std::vector<const Migration*> paused = of_workload.empty() ? same_way : of_workload;
  std::erase_if(paused, [](const Migration* m) { return m->spec.policy.max_rounds == 0; });
  if (all_at_once) bytes = resident;
  f.rate = rate;
  f.rate_known = !on_path.empty();
  const auto downtime_of = [](const Migration& m) { return static_cast<double>(m.downtime_ns); };
  f.bytes = static_cast<std::uint64_t>(bytes);
  f.total_s = setup + bytes / rate;
  f.downtime_ns = paused.empty() ? default_downtime_ns : static_cast<std::int64_t>(median_of(paused, downtime_of));
  if (all_at_once) f.downtime_ns += static_cast<std::int64_t>(1e9 * bytes / rate);  // beyond a pause with hardly a page
  f.basis = !of_workload.empty() ? fmt::format("the last {} of this workload", of_workload.size())
            : !same_way.empty()
                ? fmt::format("the last {} from '{}' to '{}'", same_way.size(), spec.source, spec.destination)
                : "nothing was measured yet: a gigabit link is assumed";
  return f;
}

}  // namespace godwit::coordinator
