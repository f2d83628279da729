// What becomes of a workload: it ends by itself, arrives from another node, or leaves for one.
#include "agent/workload/process.h"
#include "agent/workload/workloads.h"
#include "common/base/log.h"

#include <csignal>

namespace godwit::workload {
namespace {

net::awaitable<void> after(std::shared_ptr<bool> alive, UniqueFd process, std::function<void()> then) {
  co_await process_ended(std::move(process));
  if (*alive) then();
}

}  // namespace

// The init knows how the root task ended; without one, that it ended is all there is to know.
void Workloads::watch(Entry& entry) {
  const Saved& s = entry.saved;
  entry.generation = next_generation_++;
  UniqueFd process =
      s.init_pid() > 0 ? find_process(s.init_pid(), s.init_start_time()) : find_process(s.info().pid(), s.start_time());
  if (!process) {
    ended(entry);
    return;
  }
  const auto then = [this, name = s.info().name(), generation = entry.generation] {
    const auto found = entries_.find(name);
    if (found != entries_.end() && found->second.generation == generation) ended(found->second);
  };
  net::spawn(executor_, "workload.watch", after(alive_, std::move(process), then));
}

void Workloads::ended(Entry& entry) {
  if (entry.departing) {
    entry.missed = true;
    return;
  }
  api::WorkloadInfo& info = *entry.saved.mutable_info();
  info.set_state("exited");
  info.set_exit_code(read_exit_code(path(info.name(), ".exit")));
  log::info("workload.exited", {{"name", info.name()}, {"code", info.exit_code()}});
  try {
    save(entry);
    Cgroup::destroy(plan_.cgroup + "/" + entry.saved.cgroup(), std::chrono::seconds(1));
  } catch (const Error& e) {
    log::warn("workload.exited", {{"name", info.name()}, {"message", e.message()}});
  }
  if (exited_) exited_(info);
}

net::awaitable<UniqueFd> Workloads::build(Saved saved, bool in_namespaces) {
  const std::string name = saved.info().name();
  check_workload_name(name);
  check_free(name);
  const GuestPid root{saved.info().guest_pid()};
  saved.mutable_info()->set_state("building");
  Init init;
  std::exception_ptr problem;
  try {
    announce(std::move(saved));
    if (in_namespaces) {
      init = co_await start_waiting_init(init_place(name), root);
      Entry& entry = entries_.at(name);
      entry.saved.set_init_pid(init.pid);
      entry.saved.set_init_start_time(init.start_time);
      save(entry);
    }
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {
    end_init(entries_.at(name).saved);
    give_back(name);
    std::rethrow_exception(problem);
  }
  co_return std::move(init.pidfd);
}

void Workloads::prepared(const std::string& name, pid_t root, std::uint64_t start_time, HeldTasks held) {
  Entry& entry = entries_.at(name);
  *entry.saved.mutable_held() = std::move(held);
  entry.saved.mutable_info()->set_pid(root);
  entry.saved.mutable_info()->set_state("prepared");
  entry.saved.set_start_time(start_time);
  save(entry);
}

void Workloads::running(const std::string& name) {
  Entry& entry = entries_.at(name);
  if (entry.saved.info().state() != "running") {
    entry.saved.mutable_info()->set_state("running");
    entry.saved.clear_held();
    entry.saved.clear_before();
    entry.unsaved = true;
    if (const UniqueFd init = find_process(entry.saved.init_pid(), entry.saved.init_start_time())) {
      send_signal(init.get(), SIGUSR1);  // the workload is complete: its end is the init's
    }
    watch(entry);
  }
  if (entry.unsaved) save(entry);
  entry.unsaved = false;
}

void Workloads::depart(const std::string& name) {
  if (const auto found = entries_.find(name); found != entries_.end()) found->second.departing = true;
}

void Workloads::stay(const std::string& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end() || !found->second.departing) return;
  found->second.departing = false;
  if (found->second.missed) ended(found->second);
}

void Workloads::forget(const std::string& name, const std::string& cgroup) {
  const auto found = entries_.find(name);
  if (found == entries_.end() || found->second.saved.cgroup() != cgroup) return;
  end_init(found->second.saved);
  give_back(name);
}

void Workloads::end_init(const Saved& saved) const {
  UniqueFd init = find_process(saved.init_pid(), saved.init_start_time());
  if (!init) return;
  send_signal(init.get(), SIGKILL);
  net::spawn(executor_, "workload.end_init", reap_later(std::move(init)));
}

}  // namespace godwit::workload
