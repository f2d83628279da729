// What the engine's tests have in common: targets in PID namespaces of their own, engine jobs spoken to as an agent
// would, and a stand-in for the page path between two of them. Everything is cleaned up by destructors.
#pragma once

#include "agent/engine/job.pb.h"
#include "common/base/fd.h"
#include "common/pagewire/ring.h"

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::test {

// Directory for the files of one test; removed with all that is in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A cgroup v2 below the root; its tasks are killed and it is removed.
class TestCgroup {
 public:
  explicit TestCgroup(const std::string& name);
  ~TestCgroup();
  const std::string& path() const { return path_; }
  bool frozen() const;
  void thaw() const;

 private:
  std::string path_;
};

// PID, mount and network namespaces with an init that reaps; programs started in them are the init's children.
class PidNamespace {
 public:
  // `local`: a directory that is another one in here (none: all files are those of the host).
  explicit PidNamespace(const std::string& local = {});
  ~PidNamespace();  // ends all in it
  int init() const { return pidfd_.get(); }
  // Runs `body` in a new process with only standard descriptors, its output in `output`. Returns the host PID.
  pid_t run(const std::string& output, const std::function<void()>& body);
  // The status of the process that had this PID in here, as wait(2) gives it, when it has ended; said once.
  std::optional<int> take_end(pid_t pid);

 private:
  pid_t host_pid(pid_t inside) const;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd ends_;  // pairs of PID and status
  std::map<pid_t, int> ended_;
};

// godwit-engine with these arguments, in the network namespace of a process if one is given: exit status as wait(2) gives
// it, and what it printed.
struct Ran {
  int status = 0;
  std::string output;
  bool ok() const { return status == 0; }
};
Ran run_engine(const std::vector<std::string>& arguments, const std::string& fault = {}, pid_t network_of = 0);

// One `godwit-engine job`.
class JobClient {
 public:
  // `journal` outlives the job. `source`: with a ring.
  JobClient(int journal, bool source, const std::string& fault = {});
  ~JobClient();

  Event ask(Command command, std::vector<int> fds = {}, std::chrono::seconds limit = std::chrono::seconds(60));
  void post(const Command& command, std::vector<int> fds = {});
  // The answer to the last post of this id, if it is there; runs `meanwhile` while it is not.
  Event await(std::uint64_t id, const std::function<void()>& meanwhile,
              std::chrono::seconds limit = std::chrono::seconds(60));
  bool alive();
  int wait_end();  // exit status
  void kill();

  pagewire::Ring& ring() { return *ring_; }
  std::uint64_t absorbed() const { return absorbed_; }

 private:
  bool receive(Event& event);

  pid_t pid_ = -1;
  UniqueFd socket_;
  std::optional<pagewire::Ring> ring_;
  std::uint64_t next_id_ = 1;
  std::uint64_t absorbed_ = 0;
  std::map<std::uint64_t, Event> early_;
  int status_ = 0;
};

// Carries frames from a source job's ring to a destination job through a spool directory, acknowledging to both.
class Pump {
 public:
  Pump(JobClient& source, JobClient& destination, const std::string& spool);
  void operator()();  // what is there now

 private:
  JobClient& source_;
  JobClient& destination_;
  UniqueFd stream_;
  std::uint64_t length_ = 0;
};

bool wait_for(const std::function<bool()>& condition, std::chrono::milliseconds limit = std::chrono::seconds(10));
bool process_is_there(pid_t pid);
char state_of(pid_t pid);  // of /proc/PID/stat; 0: not there
std::string contents(const std::string& path);
std::size_t lines_in(const std::string& path);

}  // namespace godwit::engine::test
