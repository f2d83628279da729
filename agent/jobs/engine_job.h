// One run of godwit-engine: the agent's end of agent/engine/job.proto.
//
// The job lives in its own cgroup below <root>/jobs, so that the next life of the agent finds and ends it. What it
// borrows from its target is in a journal that outlives it: a file, not a memfd, because agent and job may die
// together. When the job has died every pending question fails and `died` is called once; nobody is restarted here.
//
// On the executor's thread. Errors: what the engine said, as it said it; internal when the job died; timed_out, after
// which the job is in an unknown state and should be killed.
#pragma once

#include "agent/engine/job.pb.h"
#include "agent/jobs/packet_link.h"
#include "agent/workload/cgroup.h"
#include "agent/workload/spawn.h"
#include "common/pagewire/ring.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace godwit::jobs {

enum class JobKind { source = 1, destination };

struct EngineJobPlan {
  std::string program;     // godwit-engine
  std::string cgroup;      // of the job, made here
  std::string journal;     // file, made when missing
  std::string migration;   // for the job's log
  std::uint64_t seed = 0;  // of the frame checksums
  JobKind kind = JobKind::source;
};

class EngineJob : public std::enable_shared_from_this<EngineJob> {
 public:
  struct Handlers {
    std::function<void(engine::Absorbed)> absorbed;
    std::function<void(Error)> died;
  };

  static std::shared_ptr<EngineJob> start(net::Executor executor, EngineJobPlan plan, Handlers handlers);
  ~EngineJob();

  // When something has moved that tells that an answer is still to be hoped for.
  using Moved = std::function<Clock::time_point()>;

  // The answer's body is never a Failure: that is thrown. The descriptors are closed here once sent. The limit begins
  // anew whenever something has moved.
  net::awaitable<engine::Event> ask(engine::Command command, std::vector<UniqueFd> fds, Clock::duration limit,
                                    Moved moved = {});

  // Messages that are not answered. `room` is the back-pressure: it waits while many are queued.
  void post(const engine::Command& command);
  net::awaitable<void> room() { return link_->room(); }

  // Ends in good order, or else by force; the process is gone when this returns. False: it had died, or had to be
  // killed, and may have left something borrowed.
  net::awaitable<bool> end(Clock::duration limit);
  net::awaitable<void> kill();
  void interrupt();  // sends the kill and does not wait: what is being asked fails

  bool alive() const { return !dead_; }
  // The consumer's side of the ring; source jobs only, once.
  pagewire::RingFds take_ring() { return std::move(ring_); }

  explicit EngineJob(net::Executor executor) : executor_(executor), changed_(executor) {}

 private:
  struct Pending {
    std::optional<engine::Event> answer;
    std::optional<Error> problem;
  };

  void start_engine(const EngineJobPlan& plan);
  net::awaitable<void> watch(UniqueFd pidfd);
  net::awaitable<bool> wait_dead(Clock::duration limit);
  void arrived(net::Packet packet);
  void fail_all(const Error& error);

  net::Executor executor_;
  net::Signal changed_;
  Handlers handlers_;
  workload::Child child_;
  std::string cgroup_;
  std::shared_ptr<PacketLink> link_;
  pagewire::RingFds ring_;
  std::map<std::uint64_t, std::shared_ptr<Pending>> pending_;
  std::uint64_t next_id_ = 1;
  std::optional<Error> last_words_;  // a failure that answered nothing: why it is about to end
  bool socket_closed_ = false;
  bool ending_ = false;  // asked to: its end is no death
  bool dead_ = false;
};

}  // namespace godwit::jobs
