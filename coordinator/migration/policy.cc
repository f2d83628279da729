#include "coordinator/migration/policy.h"

#include "common/base/units.h"
#include "coordinator/migration/catching_up.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <ranges>
#include <span>
#include <utility>

namespace godwit::coordinator {
namespace {

using std::chrono::nanoseconds;

// A round has to shrink the dirty set by a tenth to count as progress.
constexpr double progress_factor = 0.9;
constexpr unsigned rounds_without_progress = 3;

// Each attempt stops the workload for some milliseconds.
constexpr unsigned most_over_budget = 3;

// Rounds that no longer shrink the dirty set scatter: one that was held up leaves much more than the next one will. So
// it is not the moment to freeze unless little more is left than after the best round.
constexpr double close_to_best = 1.25;

// Sending this is lost in the noise of a freeze, so another round cannot buy anything.
constexpr nanoseconds negligible_transfer = std::chrono::milliseconds(2);

// A smaller round measures latency, not bandwidth.
constexpr std::uint64_t telling_round = 4u << 20;
constexpr double telling_s = 0.2;  // unless it takes as long as that

// Rounds that took less than this in all may have met one and the same burst. More of them are cheap.
constexpr double telling_time_s = 2;

// Rounds whose lengths differ by no more than this factor see the same rate of writes: shorter ones see a higher one,
// for pages that are written twice count once. So many of them are looked at.
constexpr double alike = 2.5;
constexpr unsigned most_alike = 4;

// What a round of catching up takes beyond its bytes.
constexpr double catch_up_cost_s = 0.005;
constexpr double about_as_much = 4;  // of two last differences, and one below `little` is as good as none
constexpr std::uint64_t little = 1 << 20;

double seconds_of(nanoseconds t) { return std::chrono::duration<double>(t).count(); }
double milliseconds(nanoseconds t) { return std::chrono::duration<double, std::milli>(t).count(); }

nanoseconds transfer_time(std::uint64_t bytes, double bytes_per_second) {
  if (bytes == 0) return nanoseconds(0);
  // Without a measured rate nothing can be promised: an hour is beyond every budget.
  if (bytes_per_second <= 0) return std::chrono::hours(1);
  const double seconds = std::min(static_cast<double>(bytes) / bytes_per_second, 3600.0);
  return std::chrono::duration_cast<nanoseconds>(std::chrono::duration<double>(seconds));
}

struct Progress {
  unsigned stalled = 0;  // how many of the last rounds in a row did not leave less than the best one before them
  bool at_best = true;   // the last round left about as little
};

Progress progress_of(std::span<const RoundRecord> rounds) {
  Progress p;
  double best = std::numeric_limits<double>::infinity();
  for (const RoundRecord& r : rounds) {
    const auto left = static_cast<double>(r.dirty_bytes_after);
    p.stalled = left < progress_factor * best ? 0 : p.stalled + 1;
    p.at_best = left <= close_to_best * best;
    best = std::min(best, left);
  }
  return p;
}

std::string numbers(const Measurements& measured, const PolicyOptions& options, nanoseconds predicted) {
  const RoundRecord& last = measured.rounds.back();
  return fmt::format(
      "after {} rounds {} are dirty again and the path moves {}/s: predicted downtime {:.0f} ms, budget {:.0f} ms",
      measured.rounds.size(), human_bytes(last.dirty_bytes_after),
      human_bytes(static_cast<std::uint64_t>(usable_bandwidth(measured))), milliseconds(predicted),
      milliseconds(options.downtime));
}

Decision give_up(nanoseconds predicted, std::string reason, nanoseconds attainable) {
  return {.action = Action::give_up,
          .predicted_downtime = predicted,
          .reason = std::move(reason),
          .attainable = attainable};
}

Decision no_progress(const Measurements& measured, const PolicyOptions& options, nanoseconds predicted,
                     std::string_view why) {
  const std::string text = fmt::format("{}: {}", why, numbers(measured, options, predicted));
  switch (options.on_no_progress) {
    case OnNoProgress::force:
      return {Action::freeze, expect_downtime(measured), text + "; frozen all the same, as asked"};
    case OnNoProgress::abort: return give_up(predicted, text, predicted);
    case OnNoProgress::throttle: break;
  }
  for (const unsigned percent : options.throttle_steps)
    if (percent < measured.cpu_percent)
      return {.action = Action::throttle,
              .predicted_downtime = predicted,
              .reason = fmt::format("{}; it gets {} % of its CPU time", text, percent),
              .cpu_percent = percent};
  return give_up(predicted, fmt::format("{}, with {} % of its CPU time", text, measured.cpu_percent), predicted);
}

// Less CPU time does not bring back the time that is over.
Decision out_of_time(const Measurements& measured, PolicyOptions options, nanoseconds predicted) {
  if (options.on_no_progress == OnNoProgress::throttle) options.on_no_progress = OnNoProgress::abort;
  return no_progress(measured, options, predicted, "the time for the whole migration is over");
}

Decision freeze(const Measurements& measured, const PolicyOptions& options, std::string reason) {
  return {.action = Action::freeze,
          .predicted_downtime = expect_downtime(measured),
          .reason = std::move(reason),
          .most_bytes = most_bytes_within(measured, options.downtime)};
}

// Bytes per second that a workload is sure to dirty in the rounds to come. These are shorter than the ones before, and
// in a shorter time no fewer bytes per second are dirtied: what a long interval saves is pages that are written twice.
// A round may have met a burst, though, so of two the calmer one counts, and a single one by half.
double calm_dirty_rate(const std::vector<RoundRecord>& rounds) {
  const auto rate = [](const RoundRecord& r) {
    return r.seconds > 0 ? static_cast<double>(r.dirty_bytes_after) / r.seconds : 0;
  };
  const double last = rate(rounds.back());
  return rounds.size() == 1 ? last / 2 : std::min(last, rate(rounds[rounds.size() - 2]));
}

// Bytes per second that the workload dirties. A round sends all that was written while the one before was sent, which
// is more than was dirty when that one had been emitted. What a freeze that came to nothing has sent ahead counts as
// one round, though it was several, and what it owed is sent once more: over some rounds of about the same length it
// evens out.
double write_rate(const std::vector<RoundRecord>& rounds) {
  const RoundRecord& last = rounds.back();
  double bytes = 0, seconds = 0;
  for (std::size_t i = rounds.size() - 1; i > 0 && rounds.size() - i <= most_alike; i--) {
    const double before_s = rounds[i - 1].seconds;
    const double newest_s = rounds[rounds.size() - 2].seconds;
    if (std::max(before_s, newest_s) > alike * std::min(before_s, newest_s)) break;
    bytes += static_cast<double>(rounds[i].bytes);
    seconds += before_s;
  }
  const double told = last.seconds > 0 ? static_cast<double>(last.dirty_bytes_after) / last.seconds : 0;
  return seconds > 0 ? std::max(told, bytes / seconds) : told;
}

// No more than there is can be written.
double most_dirty(const Measurements& measured) {
  std::uint64_t most = measured.resident_bytes;
  for (const RoundRecord& r : measured.rounds) most = std::max(most, std::max(r.bytes, r.dirty_bytes_after));
  return static_cast<double>(most);
}

bool tells(const RoundRecord& r) { return r.bytes >= telling_round || (r.bytes > 0 && r.seconds >= telling_s); }

// What the rounds at the rate of now tell; those before, as long as these take no longer than a message does.
std::vector<RoundRecord> at_this_rate(const Measurements& measured) {
  if (measured.rounds.size() <= measured.rate_since) return measured.rounds;
  std::vector<RoundRecord> since(measured.rounds.begin() + static_cast<std::ptrdiff_t>(measured.rate_since),
                                 measured.rounds.end());
  return std::ranges::any_of(since, tells) ? since : measured.rounds;
}

// Of the last three telling rounds the middle one: one may have been held up, and the pause will hardly be.
double usual_bandwidth(const Measurements& measured) {
  std::vector<double> rates;
  const std::vector<RoundRecord> rounds = at_this_rate(measured);
  for (const RoundRecord& r : std::views::reverse(rounds))
    if (rates.size() < 3 && r.bytes >= telling_round && r.seconds > 0)
      rates.push_back(static_cast<double>(r.bytes) / r.seconds);
  if (rates.size() < 3) return usable_bandwidth(measured);
  std::ranges::sort(rates);
  return measured.rate_limit > 0 ? std::min(rates[1], static_cast<double>(measured.rate_limit)) : rates[1];
}

double best_bandwidth(const Measurements& measured) {
  const std::vector<RoundRecord> rounds = at_this_rate(measured);
  double best = bandwidth(rounds);
  for (const RoundRecord& r : rounds)
    if (r.bytes >= telling_round && r.seconds > 0) best = std::max(best, static_cast<double>(r.bytes) / r.seconds);
  return measured.rate_limit > 0 ? std::min(best, static_cast<double>(measured.rate_limit)) : best;
}

}  // namespace

std::string_view name(Action action) {
  switch (action) {
    case Action::another_round: return "another_round";
    case Action::freeze: return "freeze";
    case Action::give_up: return "give_up";
    case Action::throttle: return "throttle";
  }
  return "unknown";
}

double bandwidth(const std::vector<RoundRecord>& rounds) {
  for (const RoundRecord& r : std::views::reverse(rounds))
    if (r.bytes >= telling_round && r.seconds > 0) return static_cast<double>(r.bytes) / r.seconds;
  // The path is no slower than it was in any of them, and one may have been held up.
  double best = 0;
  for (const RoundRecord& r : rounds)
    if (r.seconds > 0) best = std::max(best, static_cast<double>(r.bytes) / r.seconds);
  return best;
}

double usable_bandwidth(const Measurements& measured) {
  const double rate = bandwidth(at_this_rate(measured));
  return measured.rate_limit > 0 ? std::min(rate, static_cast<double>(measured.rate_limit)) : rate;
}

std::uint64_t most_bytes_within(const Measurements& measured, nanoseconds budget) {
  const double seconds = std::chrono::duration<double>(budget - measured.overhead).count();
  return std::max(page_size, static_cast<std::uint64_t>(std::clamp(seconds * usable_bandwidth(measured), 0.0, 1e18)));
}

nanoseconds predict_downtime(const Measurements& measured) {
  if (measured.rounds.empty()) return std::chrono::hours(1);
  return measured.overhead + transfer_time(measured.rounds.back().dirty_bytes_after, usable_bandwidth(measured));
}

SeenPause seen_pause(const std::vector<RoundRecord>& rounds, nanoseconds downtime, bool same_nodes) {
  const RoundRecord& last = rounds.back();
  const double rate = bandwidth(rounds);
  const double pages_s = rate > 0 ? static_cast<double>(last.bytes) / rate : 0;
  const auto pages = std::chrono::duration_cast<nanoseconds>(std::chrono::duration<double>(pages_s));
  SeenPause seen{.overhead = std::max(downtime - pages, nanoseconds(0)), .bytes = last.bytes};
  if (same_nodes && last.bytes >= telling_round && last.seconds > 0) {
    seen.path = static_cast<double>(last.bytes) / last.seconds;
    seen.rounds_path = bandwidth({rounds.begin(), rounds.end() - 1});
  }
  return seen;
}

namespace {

bool are_about_the_same(double a, double b) { return a <= about_as_much * b && b <= about_as_much * a; }

bool had_about_as_much(const SeenPause& p, std::uint64_t bytes) {
  const auto size = [](std::uint64_t b) { return static_cast<double>(std::max(b, little)); };
  return are_about_the_same(size(p.bytes), size(bytes));
}

// Over the same path the pages of a pause go as fast as those of the last one did: nobody else writes to it then. No
// slower than those of the rounds.
double bandwidth_of_pause(const Measurements& measured, std::uint64_t bytes, double path) {
  for (const SeenPause& p : measured.pauses) {
    if (!had_about_as_much(p, bytes) || p.path <= 0 || !are_about_the_same(p.rounds_path, path)) continue;
    const double faster = std::max(path, p.path);
    return measured.rate_limit > 0 ? std::min(faster, static_cast<double>(measured.rate_limit)) : faster;
  }
  return path;
}

// Who writes much keeps the node busy, and the rest of the pause takes longer, too: the median of those that had about
// as much to move, as long as there is one.
nanoseconds usual_overhead(const Measurements& measured, std::uint64_t bytes) {
  const auto alike = [&](const SeenPause& p) { return had_about_as_much(p, bytes); };
  std::vector<nanoseconds> seen;
  const bool known = std::ranges::any_of(measured.pauses, alike);
  for (const SeenPause& p : measured.pauses)
    if (!known || alike(p)) seen.push_back(p.overhead);
  if (seen.empty()) return measured.overhead;
  const auto middle = seen.begin() + static_cast<std::ptrdiff_t>(seen.size() / 2);
  std::ranges::nth_element(seen, middle);
  return *middle;
}

}  // namespace

nanoseconds expect_downtime(const Measurements& measured) {
  const auto& rounds = measured.rounds;
  if (rounds.empty()) return predict_downtime(measured);
  const double path = usual_bandwidth(measured);
  const double written = write_rate(rounds), most = most_dirty(measured);
  const std::uint64_t dirty = rounds.back().dirty_bytes_after;
  if (path <= 0) return usual_overhead(measured, dirty) + transfer_time(dirty, path);
  // What is dirty was counted when the round had been emitted; until it was stored more was written.
  double left =
      std::max(static_cast<double>(dirty), rounds.size() > 1 ? std::min(written * rounds.back().seconds, most) : 0);
  CatchingUp catching_up;
  for (bool more = CatchingUp::begins(left); more;) {
    const double seconds = catch_up_cost_s + left / path;
    more = catching_up.goes_on(std::exchange(left, std::min(written * seconds, most)), seconds);
  }
  const auto bytes = static_cast<std::uint64_t>(left);
  return usual_overhead(measured, bytes) + transfer_time(bytes, bandwidth_of_pause(measured, bytes, path));
}

nanoseconds least_downtime(const Measurements& measured, const PolicyOptions& options) {
  const auto& rounds = measured.rounds;
  if (rounds.empty()) return measured.overhead;
  double measured_s = 0;
  for (const RoundRecord& r : rounds) measured_s += r.seconds;
  const double path = best_bandwidth(measured);
  const double telling_s = options.probe.count() > 0 ? seconds_of(options.probe) : telling_time_s;
  if (rounds.size() <= measured.rate_since || measured_s < telling_s || path <= 0) return measured.overhead;
  const double shrink = calm_dirty_rate(rounds) / path;  // what one round leaves of what the one before did
  const double limit_s = std::chrono::duration<double>(options.max_total_time).count();
  double left = static_cast<double>(rounds.back().dirty_bytes_after), least = left;
  double now_s = std::chrono::duration<double>(measured.elapsed).count();
  unsigned stalled = progress_of(rounds).stalled;
  for (std::size_t n = rounds.size(); n < options.max_rounds && stalled < rounds_without_progress; n++) {
    if (limit_s > 0 && now_s >= limit_s) break;
    now_s += left / path;
    left *= shrink;
    stalled = left < progress_factor * least ? 0 : stalled + 1;
    least = std::min(least, left);
  }
  return measured.overhead + transfer_time(static_cast<std::uint64_t>(least), path);
}

// Nothing was sent yet: the whole of it goes over the path as it was with others.
nanoseconds stop_and_copy_downtime(const Measurements& measured) {
  if (measured.resident_bytes == 0 || measured.expected_rate <= 0) return nanoseconds(0);
  const double allowed = static_cast<double>(measured.rate_limit);
  const double path = allowed > 0 ? std::min(measured.expected_rate, allowed) : measured.expected_rate;
  return usual_overhead(measured, measured.resident_bytes) + transfer_time(measured.resident_bytes, path);
}

namespace {

std::string_view fault_of_last(const Measurements& measured) {
  if (measured.too_slow == 0) return "was too large";
  return measured.too_slow < measured.over_budget ? "was too large or took too long" : "took too long";
}

// Until the rounds have taken so long, and nothing but rounds has been tried. The first three in any case: a single one
// counts by half, and the first is the longest, in which most pages are written twice.
bool in_probe(const Measurements& measured, const PolicyOptions& options) {
  if (measured.over_budget > 0 || measured.owed_bytes > 0 || measured.cpu_percent < 100) return false;
  double before_s = 0;  // the last round
  for (std::size_t i = 0; i + 1 < measured.rounds.size(); i++) before_s += measured.rounds[i].seconds;
  return options.probe.count() > 0 && (measured.rounds.size() <= 3 || before_s < seconds_of(options.probe));
}

Decision decide_by(const Measurements& measured, const PolicyOptions& options) {
  const auto& rounds = measured.rounds;
  if (options.max_rounds == 0)
    return {Action::freeze, stop_and_copy_downtime(measured), "stopped and copied, as asked"};
  const nanoseconds predicted = predict_downtime(measured);
  const bool may_give_up = options.on_no_progress == OnNoProgress::abort;
  const nanoseconds least = least_downtime(measured, options);
  if (rounds.empty()) {
    if (!may_give_up || least <= options.downtime) return {Action::another_round, predicted, "nothing was sent yet"};
    return give_up(
        least,
        fmt::format("the budget cannot be met: a pause takes {:.0f} ms without any page, the budget is {:.0f} ms",
                    milliseconds(least), milliseconds(options.downtime)),
        least);
  }
  if (rounds.size() <= measured.throttled_since)
    return {Action::another_round, predicted, "with less CPU time it should write less"};
  const bool time_is_over = options.max_total_time.count() > 0 && measured.elapsed >= options.max_total_time;
  const bool untried = measured.rate_since > 0 && rounds.size() <= measured.rate_since &&
                       rounds.size() < options.max_rounds && !time_is_over;
  const Decision try_it{Action::another_round, predicted, "the rate has changed, and no round has been sent at it yet"};
  if (untried && measured.rate_fell) return try_it;
  if (measured.owed_bytes > 0 && !time_is_over)
    return {Action::another_round, predicted,
            fmt::format("the last difference, {}, cannot be sent within the budget, and is sent while it runs on",
                        human_bytes(measured.owed_bytes))};
  if (measured.over_budget >= most_over_budget && !time_is_over)
    return no_progress(measured, options, predicted,
                       fmt::format("the last difference {} {} times", fault_of_last(measured), measured.over_budget));

  const auto progress_since = [&](std::size_t first) {
    return progress_of(std::span(rounds).subspan(std::min(rounds.size(), std::max(first, measured.throttled_since))));
  };
  const bool within = predicted <= options.downtime;
  if (within && measured.owed_bytes == 0) {
    const Progress progress = progress_since(measured.rate_fell ? measured.rate_since : 0);
    const nanoseconds transfer = predicted - measured.overhead;
    const std::string text = numbers(measured, options, predicted);
    if (transfer <= negligible_transfer) return freeze(measured, options, text);
    if ((progress.stalled > 0 && progress.at_best) || progress.stalled >= rounds_without_progress)
      return freeze(measured, options, text + "; more rounds would not shrink it");
    if (rounds.size() >= options.max_rounds || time_is_over) return freeze(measured, options, text);
    return {Action::another_round, predicted, text + "; another round should leave less"};
  }
  if (untried) return try_it;
  if (time_is_over) return out_of_time(measured, options, predicted);
  if (rounds.size() >= options.max_rounds) return no_progress(measured, options, predicted, "the rounds are used up");
  if (progress_since(measured.rate_since).stalled >= rounds_without_progress)
    return no_progress(measured, options, predicted, "the workload writes faster than its pages can be sent");
  if (may_give_up && least > options.downtime)
    return give_up(predicted,
                   fmt::format("the budget cannot be met, with {:.0f} ms at best: {}", milliseconds(least),
                               numbers(measured, options, predicted)),
                   predicted);
  return {Action::another_round, predicted, numbers(measured, options, predicted)};
}

}  // namespace

Decision decide(const Measurements& measured, const PolicyOptions& options) {
  if (!in_probe(measured, options)) return decide_by(measured, options);
  PolicyOptions probing = options;
  probing.on_no_progress = OnNoProgress::abort;
  Decision decision = decide_by(measured, probing);
  decision.refuses = decision.action == Action::give_up;
  return decision;
}

}  // namespace godwit::coordinator
