#include "agent/workload/cpu_limit.h"

#include "common/base/durable_file.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <set>
#include <sstream>
#include <thread>

namespace godwit::workload {
namespace {

namespace fs = std::filesystem;

// The kernel takes quotas from 1 ms, and periods up to 1 s.
constexpr std::uint64_t least_quota_us = 1'000, usual_period_us = 10'000, longest_period_us = 1'000'000;
constexpr int most_passes = 20;  // over the tasks of a group, while new ones are born
constexpr int most_tries = 50;   // a group is in use for a moment after its last task has gone

void write_to(const std::string& path, std::string_view text) {
  const UniqueFd fd = open_file(path, O_WRONLY);
  check(::write(fd.get(), text.data(), text.size()), "write {} to {}", text, path);
}

std::string trimmed(std::string text) {
  text.erase(text.find_last_not_of(" \n") + 1);
  return text;
}

bool has_word(const std::string& text, std::string_view word) {
  std::istringstream words(text);
  for (std::string w; words >> w;)
    if (w == word) return true;
  return false;
}

bool in_list(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view one = list.substr(0, list.find(','));
    if (one == word) return true;
    list.remove_prefix(std::min(list.size(), one.size() + 1));
  }
  return false;
}

// The groups that the threads of a process are in, as paths below the root of their hierarchy.
void add_cpu_groups(pid_t pid, std::set<std::string>& groups) {
  for (const auto& task : fs::directory_iterator(fmt::format("/proc/{}/task", pid)))
    for (const proc::CgroupLine& line : proc::parse_cgroup(read_file(task.path().string() + "/cgroup")))
      if (line.id != 0 && in_list(line.controllers, "cpu")) groups.insert(line.path);
}

LimitPlace limit_place_v1(const Cgroup& copy, const std::string& name) {
  std::optional<proc::Mount> cpu;
  for (const proc::Mount& mount : proc::Reader(::getpid()).mountinfo())
    if (mount.type == "cgroup" && in_list(mount.super_options, "cpu")) cpu = mount;
  if (!cpu)
    throw Error(Errc::kernel_missing,
                fmt::format("CPU time cannot be limited here: the cpu controller is neither in {} nor a v1 hierarchy",
                            copy.path()),
                "give the agent a --cgroup whose parents have cpu in their cgroup.subtree_control");
  std::set<std::string> groups;
  for (const pid_t pid : copy.pids()) add_cpu_groups(pid, groups);
  if (groups.empty()) fail(Errc::target_gone, "{} has no tasks", copy.path());
  if (groups.size() > 1)
    fail(Errc::unsupported, "CPU time cannot be limited: the threads are in several groups of {}, {} and {}",
         cpu->point, *groups.begin(), *std::next(groups.begin()));
  std::string below = *groups.begin();
  if (cpu->root != "/" && below.starts_with(cpu->root)) below.erase(0, cpu->root.size());
  const std::string home = below == "/" ? cpu->point : cpu->point + below;
  const std::string group = home + "/" + name;
  return {.file = group + "/cpu.cfs_quota_us", .lifted = "-1", .group = group, .home = home};
}

// One that ends may still be there as a zombie.
void add_unless_ended(Cgroup& to, pid_t pid) {
  try {
    to.add(pid);
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
  }
}

// Until nobody is left in `from`, where tasks may be born meanwhile.
void move_all(const Cgroup& from, Cgroup& to) {
  for (int pass = 0; pass < most_passes; ++pass) {
    const std::vector<pid_t> pids = from.pids();
    if (pids.empty()) return;
    for (const pid_t pid : pids) add_unless_ended(to, pid);
  }
}

void lift_place(const LimitPlace& place) {
  if (place.group.empty()) {
    if (fs::exists(place.file)) write_to(place.file, place.lifted);
    return;
  }
  const std::optional<Cgroup> group = Cgroup::open(place.group);
  if (!group) return;
  write_to(place.file, place.lifted);
  if (auto home = Cgroup::open(place.home)) move_all(*group, *home);
  for (int i = 0; !group->remove(); ++i) {
    if (i == most_tries) fail(Errc::busy, "{} stays in use", place.group);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

CpuQuota quota_of(double cpus) {
  const double least = static_cast<double>(least_quota_us) / static_cast<double>(longest_period_us);
  const double share = std::clamp(cpus, least, 1e6);
  const auto quota = static_cast<std::uint64_t>(share * static_cast<double>(usual_period_us));
  if (quota >= least_quota_us) return {.quota_us = quota, .period_us = usual_period_us};
  const auto period = static_cast<std::uint64_t>(static_cast<double>(least_quota_us) / share);
  return {.quota_us = least_quota_us, .period_us = std::min(period, longest_period_us)};
}

std::optional<LimitPlace> limit_place_v2(const std::string& cgroup) {
  const std::string file = cgroup + "/cpu.max", parent = fs::path(cgroup).parent_path();
  if (!fs::exists(file) && fs::exists(parent + "/cgroup.controllers") &&
      has_word(read_file(parent + "/cgroup.controllers"), "cpu"))
    write_to(parent + "/cgroup.subtree_control", "+cpu");
  if (!fs::exists(file)) return std::nullopt;
  return LimitPlace{.file = file, .lifted = trimmed(read_file(file)), .group = {}, .home = {}};
}

std::string note_of(const LimitPlace& place) {
  return fmt::format("{}\n{}\n{}\n{}\n", place.file, place.lifted, place.group, place.home);
}

std::optional<LimitPlace> parse_limit_note(const std::string& text) {
  if (text.empty()) return std::nullopt;
  std::istringstream lines(text);
  LimitPlace place;
  for (std::string* part : {&place.file, &place.lifted, &place.group, &place.home}) std::getline(lines, *part);
  // Written there as root: nothing else than what lifts a limit.
  const fs::path file(place.file);
  const bool v2 = file.filename() == "cpu.max" && place.group.empty() && place.home.empty();
  const bool v1 = place.file == place.group + "/cpu.cfs_quota_us" && !place.home.empty() && place.lifted == "-1";
  if (!lines || !file.is_absolute() || !(v1 || v2))
    fail(Errc::image_corrupt, "'{}' is no note of a CPU limit", text.substr(0, 200));
  return place;
}

CpuLimit::CpuLimit(const std::string& copy, const std::string& name, std::string note)
    : copy_(Cgroup::create(copy)), note_(std::move(note)) {
  const std::optional<LimitPlace> v2 = limit_place_v2(copy_.path());
  place_ = v2 ? *v2 : limit_place_v1(copy_, name);
}

void CpuLimit::write_note() const { replace_file(note_, note_of(place_)); }

void CpuLimit::move_in() {
  Cgroup group = Cgroup::create(place_.group);
  for (int pass = 0; pass < most_passes; ++pass) {
    const std::vector<pid_t> in = group.pids();
    bool all = true;
    for (const pid_t pid : copy_.pids()) {
      if (std::ranges::find(in, pid) != in.end()) continue;
      all = false;
      add_unless_ended(group, pid);
    }
    if (all) return;
  }
}

void CpuLimit::set(double cpus) {
  Doing doing("limiting the CPU time of {}", copy_.path());
  const CpuQuota quota = quota_of(cpus);
  try {
    if (!set_) write_note();
    set_ = true;
    if (place_.group.empty()) {
      write_to(place_.file, fmt::format("{} {}", quota.quota_us, quota.period_us));
      return;
    }
    const Cgroup group = Cgroup::create(place_.group);
    write_to(place_.file,
             place_.lifted);  // the period may not change under a quota that would be too much for a parent
    write_to(place_.group + "/cpu.cfs_period_us", std::to_string(quota.period_us));
    write_to(place_.file, std::to_string(quota.quota_us));
    move_in();
  } catch (...) {
    lift();
    throw;
  }
}

bool CpuLimit::has_tasks() const noexcept {
  try {
    if (copy_.populated()) return true;
    if (place_.group.empty()) return false;
    const auto group = Cgroup::open(place_.group);
    return group && !group->pids().empty();
  } catch (const std::exception& e) {
    log::warn("cpu_limit.tasks", {{"cgroup", copy_.path()}, {"message", e.what()}});
    return true;
  }
}

void CpuLimit::lift() noexcept {
  if (!set_) return;
  try {
    fault::point("agent.limit.lift");
    lift_place(place_);
    set_ = false;
    fs::remove(note_);
  } catch (const std::exception& e) {
    log::error("cpu_limit.lift", {{"cgroup", copy_.path()}, {"message", e.what()}});
  }
}

void CpuLimit::lift_noted(const std::string& note) noexcept {
  try {
    const std::optional<LimitPlace> place = parse_limit_note(read_file(note));
    if (place) lift_place(*place);
    fs::remove(note);
    log::info("cpu_limit.lifted", {{"file", place ? place->file : ""}});
  } catch (const std::exception& e) {
    log::error("cpu_limit.lift", {{"note", note}, {"message", e.what()}});
  }
}

std::uint64_t cpu_time_us(const Cgroup& cgroup) {
  return proc::parse_cpu_usage_us(read_file(cgroup.path() + "/cpu.stat"));
}

}  // namespace godwit::workload
