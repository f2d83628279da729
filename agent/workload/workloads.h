// The workloads of this node: starts them, finds them again after the agent's death, tells when one has ended.
//
// What is known of one is saved (atomically) before it matters; the copy itself is its cgroup and its init, which
// belong to nobody. A workload that has ended stays listed until its name is used again, by one that runs. On the
// executor's thread. Errors: invalid_argument, already_exists, not_found, busy, timed_out, and what the kernel says.
#pragma once

#include "agent/workload/held.h"
#include "agent/workload/init.h"
#include "agent/workload/saved.h"
#include "common/net/async.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace godwit::workload {

struct WorkloadsPlan {
  std::string directory;  // <state>/workloads, made when missing
  std::string cgroup;     // the agent's root
  std::string init;       // godwit-init
  Clock::duration start_limit = std::chrono::seconds(10);
};

class Workloads {
 public:
  Workloads(net::Executor executor, WorkloadsPlan plan, std::function<void(api::WorkloadInfo)> exited);
  ~Workloads();

  // Reads the files of a former life; what has ended meanwhile is reported.
  void load();

  net::awaitable<api::WorkloadInfo> run(api::RunWorkload request);
  void kill(const std::string& name, int signal);

  std::vector<api::WorkloadInfo> list() const;
  const Saved* find(const std::string& name) const;
  const Saved* find_by_pid(pid_t pid) const;  // by cgroup
  api::WorkloadInfo info(const std::string& name) const;

  // Destination: an init for a workload to come (none when `in_namespaces` is false), and its entry as "building".
  // Returns the pidfd of the init.
  net::awaitable<UniqueFd> build(Saved saved, bool in_namespaces);
  void prepared(const std::string& name, pid_t root, std::uint64_t start_time, HeldTasks held);
  void running(const std::string& name);  // it is so, also when the file cannot be written; then again

  // Source: from here on its end is nobody's business but the migration's; then forgets it, with init and cgroup.
  void depart(const std::string& name);
  void stay(const std::string& name);                               // the migration came to nothing
  void forget(const std::string& name, const std::string& cgroup);  // only when it is this copy

  std::string log_path(const std::string& name) const { return plan_.directory + "/" + name + ".log"; }

 private:
  struct Entry {
    Saved saved;
    bool departing = false;
    bool missed = false;           // it ended while it was departing
    bool unsaved = false;          // it runs, and the file does not say so yet
    std::uint64_t generation = 0;  // a watcher of an older one is ignored
  };

  void check_free(const std::string& name) const;
  void announce(Saved saved);               // of one that is to come
  void give_back(const std::string& name);  // it does not come
  net::awaitable<void> end_start(std::string name, Cgroup& copy);
  void save(const Entry& entry) const;
  void watch(Entry& entry);
  void ended(Entry& entry);
  void end_init(const Saved& saved) const;
  std::string path(const std::string& name, const char* suffix) const { return plan_.directory + "/" + name + suffix; }
  InitPlace init_place(const std::string& name) const;

  net::Executor executor_;
  WorkloadsPlan plan_;
  std::function<void(api::WorkloadInfo)> exited_;
  Cgroup inits_;
  std::map<std::string, Entry> entries_;
  std::uint64_t next_generation_ = 1;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace godwit::workload
