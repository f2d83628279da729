#include "agent/workload/workloads.h"

#include "agent/workload/cgroup_wait.h"
#include "common/base/durable_file.h"
#include "common/base/log.h"
#include "common/base/wall_clock.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <filesystem>

#include <sys/random.h>

namespace godwit::workload {
namespace {

namespace fs = std::filesystem;

constexpr auto end_limit = std::chrono::seconds(5);

std::string random_id() {
  std::uint32_t bits = 0;
  check(::getrandom(&bits, sizeof bits, 0), "get random bytes");
  return fmt::format("{:08x}", bits);
}

std::uint64_t resident_bytes(const Cgroup& cgroup) {
  std::uint64_t sum = 0;
  for (const pid_t pid : cgroup.pids()) {
    try {
      sum += proc::Reader(pid).status().rss_bytes;
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
    }
  }
  return sum;
}

}  // namespace

Workloads::Workloads(net::Executor executor, WorkloadsPlan plan, std::function<void(api::WorkloadInfo)> exited)
    : executor_(std::move(executor)),
      plan_(std::move(plan)),
      exited_(std::move(exited)),
      inits_(Cgroup::create(plan_.cgroup + "/inits")) {
  fs::create_directories(plan_.directory);
}

Workloads::~Workloads() { *alive_ = false; }

InitPlace Workloads::init_place(const std::string& name) const {
  return {.program = plan_.init, .cgroup = inits_.dir(), .exit_path = path(name, ".exit"), .limit = plan_.start_limit};
}

void Workloads::load() {
  constexpr std::string_view suffix = ".workload";
  constexpr std::size_t largest_file = 1 << 20;
  std::vector<Saved> unstarted;
  for (const auto& file : fs::directory_iterator(plan_.directory)) {
    std::string name = file.path().filename();
    if (!name.ends_with(suffix)) continue;
    name.resize(name.size() - suffix.size());
    Saved saved;
    try {
      saved = parse_saved(name, read_file(file.path(), largest_file));
    } catch (const Error& e) {
      log::error("workload.unreadable", {{"name", name}, {"message", e.message()}});
      continue;
    }
    if (saved.info().state() == "starting") {
      log::warn("workload.unstarted", {{"name", name}});
      unstarted.push_back(std::move(saved));
      continue;
    }
    Entry& kept = entries_[name];
    kept.saved = std::move(saved);
    if (kept.saved.info().state() == "running") watch(kept);
  }
  // Its init ends with it.
  for (const Saved& saved : unstarted) {
    const std::string& name = saved.info().name();
    entries_[name].saved = saved;
    try {
      if (saved.cgroup().empty() || saved.cgroup().find('/') != std::string::npos)
        fail(Errc::internal, "'{}' is no cgroup of a workload", saved.cgroup());
      Cgroup::destroy(plan_.cgroup + "/" + saved.cgroup(), std::chrono::seconds(5));
      give_back(name);
    } catch (const std::exception& e) {  // other workloads must not wait for it: the next start tries again
      log::error("workload.unstarted", {{"name", name}, {"message", e.what()}});
    }
  }
}

void Workloads::check_free(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found != entries_.end() && found->second.saved.info().state() != "exited") {
    fail(Errc::already_exists, "there is a workload '{}' on this node", name);
  }
}

namespace {

RunPlan plan_of(const api::RunWorkload& request) {
  RunPlan plan{.argv = {request.argv().begin(), request.argv().end()},
               .environment = {request.environment().begin(), request.environment().end()},
               .directory = request.directory().empty() ? "/" : request.directory(),
               .output = request.output(),
               .uid = request.uid(),
               .gid = request.gid()};
  const auto names_path = [](const std::string& e) { return e.starts_with("PATH="); };
  if (std::ranges::none_of(plan.environment, names_path)) {
    plan.environment.push_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  }
  return plan;
}

// A short program may have ended by the time that anybody looks.
std::uint64_t start_time_if_alive(pid_t pid) {
  if (pid <= 0) return 0;
  try {
    return start_time_of(pid);
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
    return 0;
  }
}

}  // namespace

// On file before anything of it runs.
void Workloads::announce(Saved saved) {
  const std::string name = saved.info().name();
  if (const auto found = entries_.find(name); found != entries_.end()) *saved.mutable_before() = found->second.saved;
  Entry& entry = entries_[name] = Entry{.saved = std::move(saved)};
  save(entry);
}

void Workloads::give_back(const std::string& name) {
  Entry& entry = entries_.at(name);
  if (entry.saved.has_before()) {
    const Saved before = entry.saved.before();
    entry = Entry{.saved = before};
    save(entry);
  } else {
    entries_.erase(name);
    fs::remove(path(name, ".workload"));
    fs::remove(path(name, ".exit"));
  }
}

net::awaitable<api::WorkloadInfo> Workloads::run(api::RunWorkload request) {
  const std::string name = request.name();
  check_workload_name(name);
  check_free(name);
  RunPlan plan = plan_of(request);
  if (plan.output.empty()) plan.output = log_path(name);
  const std::string output = plan.output, id = random_id();
  Saved saved;
  saved.set_cgroup(id + ".0.run");
  Cgroup copy = Cgroup::create(plan_.cgroup + "/" + saved.cgroup());
  saved.mutable_info()->set_name(name);
  saved.mutable_info()->set_id(id + ".0");
  saved.mutable_info()->set_state("starting");
  std::exception_ptr problem;
  try {
    announce(std::move(saved));
    const Started started = co_await start_workload(init_place(name), copy, std::move(plan));
    Entry& entry = entries_.at(name);
    entry.saved.set_init_pid(started.init.pid);
    entry.saved.set_init_start_time(started.init.start_time);
    Saved running = entry.saved;
    running.clear_before();
    running.set_start_time(start_time_if_alive(started.root));
    running.set_output(output);
    api::WorkloadInfo& about = *running.mutable_info();
    about.set_pid(started.root);
    about.set_guest_pid(raw(started.guest));
    about.set_state("running");
    *about.mutable_argv() = request.argv();
    about.set_started_unix(static_cast<std::uint64_t>(unix_ms() / 1000));
    save({.saved = running});
    entry.saved = std::move(running);
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {
    co_await end_start(name, copy);
    std::rethrow_exception(problem);
  }
  watch(entries_.at(name));
  log::info("workload.started", {{"name", name}, {"pid", entries_.at(name).saved.info().pid()}});
  co_return info(name);
}

// Of one that is not known to run. What does not end stays "starting", and the next life of the agent ends it.
net::awaitable<void> Workloads::end_start(std::string name, Cgroup& copy) {
  end_init(entries_.at(name).saved);
  try {
    co_await kill_all(copy, end_limit);
    Cgroup::destroy(copy.path(), std::chrono::seconds(1));
    give_back(name);
  } catch (const std::exception& e) {
    log::error("workload.unstarted", {{"name", name}, {"message", e.what()}});
  }
}

void Workloads::kill(const std::string& name, int signal) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(Errc::not_found, "there is no workload '{}' on this node", name);
  const Saved& saved = found->second.saved;
  if (saved.info().state() == "starting") fail(Errc::busy, "the workload '{}' is only being started", name);
  if (saved.info().state() == "exited") {
    fs::remove(path(name, ".workload"));
    entries_.erase(found);
    return;
  }
  const UniqueFd root = find_process(saved.info().pid(), saved.start_time());
  if (root) send_signal(root.get(), signal);
}

std::vector<api::WorkloadInfo> Workloads::list() const {
  std::vector<api::WorkloadInfo> infos;
  for (const auto& [name, entry] : entries_) {
    if (entry.saved.info().state() != "building") infos.push_back(info(name));
  }
  return infos;
}

const Saved* Workloads::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second.saved;
}

const Saved* Workloads::find_by_pid(pid_t pid) const {
  const std::string at = cgroup_of(pid, cgroup2_mount());
  for (const auto& [name, entry] : entries_) {
    const Saved& s = entry.saved;
    if (s.info().state() == "running" && at.ends_with("/" + s.cgroup())) return &s;
  }
  return nullptr;
}

api::WorkloadInfo Workloads::info(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(Errc::not_found, "there is no workload '{}' on this node", name);
  api::WorkloadInfo info = found->second.saved.info();
  if (info.state() == "exited") return info;
  if (const auto cgroup = Cgroup::open(plan_.cgroup + "/" + found->second.saved.cgroup())) {
    info.set_resident_bytes(resident_bytes(*cgroup));
    if (info.state() == "running" && cgroup->frozen()) info.set_state("frozen");
  }
  return info;
}

// Not synced: after a reboot there is no workload to find.
void Workloads::save(const Entry& entry) const {
  replace_file(path(entry.saved.info().name(), ".workload"), entry.saved.SerializeAsString());
}

}  // namespace godwit::workload
