#include "common/proc/values.h"

#include "common/proc/text.h"

namespace godwit::proc {
namespace {

// "1070379.517804" milliseconds, always six digits behind the point.
std::uint64_t nanoseconds(std::string_view value) {
  Scanner scan("sched", value);
  const auto milliseconds = scan.dec<std::uint64_t>();
  scan.expect(".");
  const std::string_view digits = scan.word();
  if (digits.size() != 6) scan.bad();
  const auto rest = Scanner("sched", digits).dec<std::uint64_t>();
  if (milliseconds > UINT64_MAX / 1'000'000 - 1) scan.bad();
  return milliseconds * 1'000'000 + rest;
}

// The thread's name stands above a line of dashes as it is: it may have colons and ends of lines in it, but it is
// shorter than that line.
constexpr std::size_t longest_name = 15;

std::string_view below_the_name(std::string_view text) {
  while (const auto line = next_line(text))
    if (line->size() > longest_name && line->find_first_not_of('-') == line->npos) return text;
  malformed("sched", "nothing below the name");
}

}  // namespace

Sched parse_sched(std::string_view text) {
  Sched sched;
  bool has_start = false;
  text = below_the_name(text);
  while (const auto line = next_line(text)) {
    const std::optional<KeyValue> kv = key_value(*line);
    if (!kv) continue;
    const std::string_view key = trim(kv->key);
    if (key == "nr_switches") sched.switches = Scanner("sched", kv->value).dec<std::uint64_t>();
    if (key == "se.exec_start") {
      sched.exec_start_ns = nanoseconds(kv->value);
      has_start = true;
    }
    if (key == "policy") sched.policy = Scanner("sched", kv->value).dec<std::uint32_t>();
    if (key == "prio") sched.prio = Scanner("sched", kv->value).dec<std::int32_t>();
  }
  if (!has_start) malformed("sched", "no se.exec_start");
  return sched;
}

std::vector<CgroupLine> parse_cgroup(std::string_view text) {
  std::vector<CgroupLine> lines;
  while (const auto line = next_line(text)) {
    Scanner scan("cgroup", *line);
    CgroupLine entry;
    entry.id = scan.dec<std::int32_t>();
    scan.expect(":");
    entry.controllers = scan.until(':');
    entry.path = unescape_octal(scan.rest(), "\n");
    lines.push_back(std::move(entry));
  }
  return lines;
}

std::vector<pid_t> parse_pids(std::string_view text) {
  Scanner scan("children", text.substr(0, text.find('\n')));
  std::vector<pid_t> pids;
  while (!scan.done()) pids.push_back(scan.dec<pid_t>());
  return pids;
}

std::uint32_t parse_personality(std::string_view text) { return Scanner("personality", text).hex<std::uint32_t>(); }
std::int32_t parse_oom_score_adj(std::string_view text) { return Scanner("oom_score_adj", text).dec<std::int32_t>(); }
std::uint32_t parse_loginuid(std::string_view text) { return Scanner("loginuid", text).dec<std::uint32_t>(); }
std::uint32_t parse_coredump_filter(std::string_view text) {
  return Scanner("coredump_filter", text).hex<std::uint32_t>();
}

std::int32_t parse_autogroup_nice(std::string_view text) {
  constexpr std::string_view before = " nice ";
  const std::size_t at = text.find(before);
  return at == std::string_view::npos ? 0 : Scanner("autogroup", text.substr(at + before.size())).dec<std::int32_t>();
}

std::uint64_t parse_context_switches(std::string_view text) {
  std::uint64_t sum = 0;
  while (const auto line = next_line(text)) {
    const std::optional<KeyValue> kv = key_value(*line);
    if (kv && (kv->key == "voluntary_ctxt_switches" || kv->key == "nonvoluntary_ctxt_switches"))
      sum += Scanner("status", kv->value).dec<std::uint64_t>();
  }
  return sum;
}

std::vector<pid_t> parse_cgroup_procs(std::string_view text) {
  std::vector<pid_t> pids;
  while (const auto line = next_line(text)) {
    Scanner scan("cgroup.procs", *line);
    pids.push_back(scan.dec<pid_t>());
    if (!scan.done()) scan.bad();
  }
  return pids;
}

std::uint64_t parse_cpu_usage_us(std::string_view text) {
  while (const auto line = next_line(text)) {
    Scanner scan("cpu.stat", *line);
    if (scan.accept("usage_usec ")) return scan.dec<std::uint64_t>();
  }
  malformed("cpu.stat", "no usage_usec");
}

}  // namespace godwit::proc
