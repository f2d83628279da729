#include "coordinator/migration/json.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <ranges>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using std::chrono::duration;
using std::chrono::duration_cast;
using std::chrono::nanoseconds;

constexpr double longest_ms = 24 * 3600 * 1000.0;
constexpr double longest_probe_s = 10;  // a preview waits for it
constexpr std::size_t most_throttle_steps = 20;

double to_ms(std::int64_t ns) { return static_cast<double>(ns) / 1e6; }

std::string_view name(OnNoProgress choice) {
  switch (choice) {
    case OnNoProgress::force: return "force";
    case OnNoProgress::abort: return "abort";
    case OnNoProgress::throttle: return "throttle";
  }
  return "abort";
}

std::string_view name(IfLost choice) {
  switch (choice) {
    case IfLost::automatic: return "auto";
    case IfLost::thaw: return "thaw";
    case IfLost::hold: return "hold";
  }
  return "auto";
}

template <class Choice>
void read_choice(JsonReader& in, const std::string& member, Choice& chosen, std::initializer_list<Choice> all) {
  const std::string text = in.text(member, std::string(name(chosen)));
  const auto found = std::ranges::find(all, text, [](Choice choice) { return name(choice); });
  if (found == all.end())
    fail(
        Errc::invalid_argument, "{}: '{}' must be {}, not '{}'", in.what(), member,
        fmt::join(all | std::views::transform([](Choice choice) { return fmt::format("'{}'", name(choice)); }), " or "),
        text.substr(0, 80));
  chosen = *found;
}

}  // namespace

void check_name(std::string_view what, std::string_view text) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; };
  if (text.empty() || text.size() > 64 || !std::isalnum(static_cast<unsigned char>(text[0])) ||
      !std::ranges::all_of(text, allowed))
    fail(Errc::invalid_argument,
         "{} '{}' is no name: 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first", what,
         text.substr(0, 80));
}

json policy_to_json(const PolicyOptions& options, std::uint64_t rate_limit) {
  return {{"downtime_ms", to_ms(options.downtime.count())},
          {"max_rounds", options.max_rounds},
          {"max_total_s", duration<double>(options.max_total_time).count()},
          {"on_no_progress", name(options.on_no_progress)},
          {"throttle_steps", options.throttle_steps},
          {"if_lost", name(options.if_lost)},
          {"probe_s", duration<double>(options.probe).count()},
          {"rate_limit", rate_limit}};
}

json to_json(const MigrationSpec& s) {
  json body{{"workload", s.workload},   {"pid", s.pid},
            {"from", s.source},         {"to", s.destination},
            {"tcp_close", s.tcp_close}, {"spool_limit", s.spool_limit},
            {"streams", s.streams},     {"assume_shared", s.assume_shared},
            {"policy", s.policy_name},  {"rehearse", s.rehearse}};
  body.update(policy_to_json(s.policy, s.rate_limit));
  return body;
}

void read_policy(JsonReader& in, PolicyOptions& options, std::uint64_t& rate_limit) {
  options.downtime = duration_cast<nanoseconds>(
      duration<double, std::milli>(in.real("downtime_ms", to_ms(options.downtime.count()), 1, longest_ms)));
  options.max_rounds = static_cast<unsigned>(in.number("max_rounds", options.max_rounds, 0, 1000));
  options.max_total_time = duration_cast<nanoseconds>(
      duration<double>(in.real("max_total_s", duration<double>(options.max_total_time).count(), 0, 30 * 24 * 3600.0)));
  read_choice(in, "on_no_progress", options.on_no_progress,
              {OnNoProgress::throttle, OnNoProgress::force, OnNoProgress::abort});
  const std::vector<std::uint64_t> steps = in.numbers(
      "throttle_steps", {options.throttle_steps.begin(), options.throttle_steps.end()}, 1, 99, most_throttle_steps);
  if (std::ranges::adjacent_find(steps, std::less_equal()) != steps.end())
    fail(Errc::invalid_argument, "{}: 'throttle_steps' must fall from one to the next", in.what());
  options.throttle_steps.assign(steps.begin(), steps.end());
  read_choice(in, "if_lost", options.if_lost, {IfLost::automatic, IfLost::thaw, IfLost::hold});
  options.probe = duration_cast<nanoseconds>(
      duration<double>(in.real("probe_s", duration<double>(options.probe).count(), 0, longest_probe_s)));
  rate_limit = in.number("rate_limit", rate_limit, 0, std::uint64_t{1} << 50);
}

MigrationSpec spec_from_json(const json& body, const Policies* policies) {
  JsonReader in(body, "migration");
  MigrationSpec s;
  s.workload = in.text("workload");
  s.pid = static_cast<std::int32_t>(in.number("pid", 0, 0, 1u << 22));
  s.source = in.text("from");
  s.destination = in.text("to");
  s.tcp_close = in.flag("tcp_close", false);
  s.spool_limit = in.number("spool_limit", s.spool_limit, 1u << 20, std::uint64_t{1} << 40);
  s.streams = static_cast<std::uint32_t>(in.number("streams", s.streams, 1, 16));
  s.assume_shared = in.texts("assume_shared", 256);
  s.policy_name = in.text("policy");
  if (!s.policy_name.empty()) check_name("policy", s.policy_name);
  if (policies && !s.policy_name.empty()) {
    const Policy& policy = policy_named(*policies, s.policy_name);
    s.policy = policy.options;
    s.rate_limit = policy.rate_limit;
  }
  read_policy(in, s.policy, s.rate_limit);
  s.rehearse = in.flag("rehearse", false);
  in.end();
  if (s.workload.empty() == (s.pid == 0)) fail(Errc::invalid_argument, "migration: give either 'workload' or 'pid'");
  if (!s.workload.empty()) check_name("workload", s.workload);
  if (s.pid && s.source.empty()) fail(Errc::invalid_argument, "migration: a 'pid' needs 'from', the node it runs on");
  if (!s.source.empty()) check_name("node", s.source);
  check_name("node", s.destination);
  return s;
}

json to_json(const RoundRecord& r) {
  return {{"number", r.number}, {"pages", r.pages},     {"zero_pages", r.zero_pages},
          {"bytes", r.bytes},   {"seconds", r.seconds}, {"dirty_bytes_after", r.dirty_bytes_after},
          {"final", r.final}};
}

json to_json(const Reason& r) { return {{"code", godwit::name(r.code)}, {"message", r.message}, {"hint", r.hint}}; }

json to_json(const Migration& m) {
  json steps = json::object();
  for (const StepRecord& s : m.steps) steps[s.name] = to_ms(s.nanoseconds);
  json rounds = json::array();
  for (const RoundRecord& r : m.rounds) rounds.push_back(to_json(r));
  json order = json::array();
  for (const StepRecord& s : m.steps) order.push_back(s.name);
  return {{"migration", m.id},
          {"epoch", m.epoch},
          {"workload", m.spec.workload},
          {"pid", m.spec.pid},
          {"from", m.spec.source},
          {"to", m.spec.destination},
          {"rehearsal", m.spec.rehearse},
          {"phase", name(m.phase)},
          {"outcome", m.outcome ? json(name(*m.outcome)) : json()},
          {"reason", m.reason ? to_json(*m.reason) : json()},
          {"notices", m.notices},
          {"created_unix_ms", m.created_unix_ms},
          {"finished_unix_ms", m.finished_unix_ms},
          {"policy", m.spec.policy_name},
          {"downtime_budget_ms", to_ms(m.spec.policy.downtime.count())},
          {"downtime_ms", m.downtime_ns ? json(to_ms(m.downtime_ns)) : json()},
          {"predicted_downtime_ms", m.predicted_downtime_ns ? json(to_ms(m.predicted_downtime_ns)) : json()},
          {"downtime_steps_ms", steps},
          {"downtime_steps_order", order},
          {"total_s", m.total_s},
          {"gb_per_s", transfer_rate(m) / 1e9},
          {"bytes", total_bytes(m)},
          {"rounds", rounds}};
}

}  // namespace godwit::coordinator
