// The tree of processes that a migration moves away, and what the agent has an engine job do to it.
//
// Managed workloads keep the cgroup that they live in: it is the copy. Anything else (migrated by PID) is moved into
// a cgroup made for this migration when its pages begin to be sent, and back when the migration comes to nothing: each
// process to where it came from, which a note in <state>/homes says to the next life of the agent, too.
#pragma once

#include "agent/jobs/engine_job.h"
#include "agent/service/context.h"

#include <memory>
#include <string>
#include <vector>

namespace godwit::service {

struct SourceTree {
  std::string workload;
  bool managed = false;
  pid_t root = 0;
  std::uint64_t start_time = 0;
  std::string cgroup;  // of the copy, relative to the agent's root
  api::WorkloadInfo info;
};

// By name or host PID. Errc::not_found, or busy when it is held by another migration.
SourceTree find_tree(Context& context, const api::Survey& request, const Key& key);
// Errc::busy when another migration has frozen it, or has not finished with it.
void check_unheld(const Context& context, const SourceTree& tree, const Key& key);
// Errc::busy when a task belongs to another copy, which it would be taken out of, or has not come home from one.
void check_apart(const Context& context, const SourceTree& tree, const engine::Surveyed& survey, const Key& key);

void enter_cgroup(Context& context, const SourceTree& tree, const engine::Surveyed& survey);
void leave_cgroup(Context& context, const SourceTree& tree);  // what fails is tried again
// After a restart: whom a migration that never came to a record, or has let go, has taken out of its cgroup.
void end_homeless(Context& context);

std::shared_ptr<jobs::EngineJob> start_source_job(Context& context, const Key& key, std::uint64_t seed,
                                                  jobs::EngineJob::Handlers handlers);

engine::Options engine_options(const api::Options& options);
api::Surveyed describe(const SourceTree& tree, const engine::Surveyed& survey);
api::RoundDone describe(const engine::RoundDone& round, double seconds);

// Has a fresh job put back whatever a dead one had borrowed from the copy; with `release` the copy then runs.
net::awaitable<void> put_back(Context& context, Record record, bool release);

// Puts back and asks for the thaw, come what may; whether it runs then is for the caller to see.
net::awaitable<void> release_copy(Context& context, Record record);

}  // namespace godwit::service
