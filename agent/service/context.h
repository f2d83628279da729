// What every part of the agent's service is given: its options, and the things that there is one of.
//
// Owned by Agent, which outlives all migrations. Everything here is used on one thread only.
#pragma once

#include "agent/jobs/page_server.h"
#include "agent/service/facts.h"
#include "agent/service/homecoming.h"
#include "agent/service/lifting.h"
#include "agent/service/node_rate.h"
#include "agent/service/probed.h"
#include "agent/service/records.h"
#include "agent/workload/workloads.h"
#include "common/api/control.pb.h"
#include "common/net/tls.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace godwit::service {

inline constexpr unsigned default_streams = 2;  // TLS on two saturates what one core cannot

// How long things may take. Tests shorten them. What depends on how much there is to send has no such end: it is given
// up when nothing has moved for so long.
struct Limits {
  using Duration = Clock::duration;
  Duration survey = std::chrono::seconds(60);
  Duration round = std::chrono::minutes(2);    // without any progress
  Duration freeze = std::chrono::seconds(30);  // without any, beyond the patience with children
  Duration stored = std::chrono::seconds(60);  // of the last difference, without any
  Duration finish = std::chrono::seconds(60);  // without any
  Duration undo = std::chrono::seconds(20);    // thaw, recover, end of a job
  Duration dial = std::chrono::seconds(10);
  Duration question = std::chrono::seconds(5);
  // A frozen copy that is not armed thaws when nobody drives its migration for so long.
  Duration undriven = std::chrono::seconds(10);
  Duration unarmed = std::chrono::seconds(60);  // or when nothing has moved and nobody asked for anything for so long
  // An armed one asks from then on, and asks for a refusal from then on.
  Duration ask_after = std::chrono::seconds(1);
  Duration refuse_after = std::chrono::seconds(3);
  Duration idle = std::chrono::minutes(5);  // a building destination whose source has gone gives up
  Duration ask_interval = std::chrono::milliseconds(500);
};

struct AgentOptions {
  std::string node;
  std::string coordinator;  // HOST:PORT; empty: none, for tests
  std::string listen;       // for peers
  std::string pages;        // for the page server
  std::string certs;
  std::string state;
  std::string cgroup;
  std::uint64_t spool_limit = 32u << 20;
  std::uint64_t rate_limit = 0;     // bytes per second that all migrations from here may send together, 0: no limit
  std::vector<std::string> shared;  // paths that all nodes share
  std::string programs;             // directory of godwit-engine, godwit-init, godwit-pageserver
  std::string page_server_user = "nobody";
  std::size_t record_slots = Records::default_slots;
  Limits limits;
};

// Memory that a workload which is being built here has been let in for.
struct PromisedMemory {
  std::string workload;
  std::uint64_t bytes = 0;
};

struct Context {
  UniqueFd lock;  // of the state: nobody else uses it
  AgentOptions options;
  net::Executor executor;
  net::TlsContext tls;
  NodeFacts facts;
  Records records;
  std::shared_ptr<NodeRate> rate;
  std::shared_ptr<Lifting> lifting;
  std::shared_ptr<Homecoming> homecoming;
  std::unique_ptr<workload::Workloads> workloads;
  std::shared_ptr<jobs::PageServer> pages;
  std::map<Key, PromisedMemory> promised;  // to each that is `building`
  Probed probed;
  std::uint64_t previews = 0;                           // so far
  std::string network_stays_open;                       // why, as found at the start; empty: it can be closed
  std::string peer_address;                             // that others can dial
  std::function<void(api::Envelope)> tell_coordinator;  // a notice; dropped while there is no connection
  // peer_lost while there is no connection
  std::function<net::awaitable<api::Envelope>(api::Envelope)> ask_coordinator;
  Clock::time_point coordinator_seen = Clock::now();  // its last request; it asks every few seconds

  std::string cgroup(const std::string& relative) const { return options.cgroup + "/" + relative; }
  std::string program(const std::string& name) const { return options.programs + "/" + name; }
  std::string limits() const { return options.state + "/limits"; }  // notes of CPU limits that are in force
  std::string journal(const Key& key) const { return options.state + "/jobs/" + to_string(key) + ".journal"; }
};

// Where the copy that a record speaks of still has tasks, on this boot.
std::optional<workload::Cgroup> living_copy(const Context& context, const Record& record);

inline Key key_of(const api::MigrationId& id, Side side) {
  return {.migration = id.migration(), .epoch = id.epoch(), .side = side};
}
inline void fill(api::MigrationId* id, const Key& key) {
  id->set_migration(key.migration);
  id->set_epoch(key.epoch);
}

api::SourceState source_state(Context& context, const Key& key, std::uint64_t frozen_ns);
api::DestinationState destination_state(Context& context, const Key& key);

}  // namespace godwit::service
