#include "agent/workload/workloads.h"

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
  return {.program = plan_.init, .cgroup = inits_.dir(), .exit_path = path(name, ".exit")};
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
    try {
      if (saved.cgroup().empty() || saved.cgroup().find('/') != std::string::npos)
        fail(Errc::internal, "'{}' is no cgroup of a workload", saved.cgroup());
      Cgroup::destroy(plan_.cgroup + "/" + saved.cgroup(), std::chrono::seconds(5));
      fs::remove(path(name, ".workload"));
      fs::remove(path(name, ".exit"));
    } catch (const std::exception& e) {  // other workloads must not wait for it: the next start tries again
      log::error("workload.unstarted", {{"name", name}, {"message", e.what()}});
      entries_[name].saved = saved;  // its name is taken
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

api::WorkloadInfo Workloads::run(const api::RunWorkload& request) {
  check_workload_name(request.name());
  check_free(request.name());
  RunPlan plan{.argv = {request.argv().begin(), request.argv().end()},
               .environment = {request.environment().begin(), request.environment().end()},
               .directory = request.directory().empty() ? "/" : request.directory(),
               .output = request.output().empty() ? log_path(request.name()) : request.output(),
               .uid = request.uid(),
               .gid = request.gid()};
  const auto names_path = [](const std::string& e) { return e.starts_with("PATH="); };
  if (std::ranges::none_of(plan.environment, names_path)) {
    plan.environment.push_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  }
  const std::string id = random_id();
  Entry entry{.saved = {}, .generation = 0};
  entry.saved.set_cgroup(id + ".0.run");
  const Cgroup copy = Cgroup::create(plan_.cgroup + "/" + entry.saved.cgroup());
  api::WorkloadInfo& info = *entry.saved.mutable_info();
  info.set_name(request.name());
  info.set_id(id + ".0");
  info.set_state("starting");
  Started started;
  try {
    save(entry);  // first: nothing runs that the next life of the agent would not know of
    started = start_workload(init_place(request.name()), copy, plan);
  } catch (...) {
    copy.remove();
    std::error_code ignored;
    fs::remove(path(request.name(), ".workload"), ignored);
    throw;
  }
  info.set_pid(started.root);
  info.set_guest_pid(raw(started.guest));
  info.set_state("running");
  *info.mutable_argv() = request.argv();
  info.set_started_unix(static_cast<std::uint64_t>(unix_ms() / 1000));
  entry.saved.set_init_pid(started.init.pid);
  entry.saved.set_init_start_time(started.init.start_time);
  entry.saved.set_start_time(start_time_if_alive(started.root));
  entry.saved.set_output(plan.output);
  Entry& kept = entries_[request.name()] = std::move(entry);
  try {
    save(kept);
  } catch (...) {
    const Saved failed = kept.saved;
    entries_.erase(request.name());
    end_init(failed);
    Cgroup::destroy(copy.path(), std::chrono::seconds(5));
    std::error_code ignored;
    fs::remove(path(request.name(), ".workload"), ignored);
    throw;
  }
  watch(kept);
  log::info("workload.started", {{"name", request.name()}, {"pid", started.root}});
  return this->info(request.name());
}

void Workloads::kill(const std::string& name, int signal) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail(Errc::not_found, "there is no workload '{}' on this node", name);
  const Saved& saved = found->second.saved;
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
