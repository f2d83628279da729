// What the destination looks at before anything is touched: can this node take that workload?
//
// Everything that is wrong is said at once, as sentences. Reads only (a port is tried by binding it for a moment), but
// for make_own_log().
#pragma once

#include "agent/engine/job.pb.h"
#include "agent/engine/resources/needed_files.h"
#include "agent/service/context.h"

#include <string>
#include <vector>

namespace godwit::service {

// True when the tree brings its own PID namespace, which an init of ours then makes here.
bool has_own_namespaces(const engine::Surveyed& survey);

// Not while another migration of this workload is unfinished on this node. Throws.
void check_admission(const Context& context, const Key& key, const std::string& workload);

std::vector<std::string> preflight(const Context& context, const api::Prepare& request, const engine::Surveyed& survey);

// What the copy and its spool take.
std::uint64_t needed_memory(const Context& context, const api::Prepare& request, const engine::Surveyed& survey);

// That a copy here may be heard of before it counts (docs/commit-protocol.md).
std::string network_notice(const Context& context, const std::string& why);

// Of a workload that has passed: there are files on storage that both nodes share which it may write. What it wrote
// there stays when the node that it ran on is lost.
bool writes_shared_files(const Context& context, const api::Prepare& request, const engine::Surveyed& survey);

// The log that this node's agent gives the workload, if it writes to one: it goes on here in a file of this node.
void make_own_log(const Context& context, const api::Prepare& request, const engine::Surveyed& survey);

// The pieces, for tests.
engine::resources::NeededFile needed_file(const engine::NeededFile& file);
std::vector<std::string> check_cpu(const engine::Surveyed& survey, const NodeFacts& here);
std::vector<std::string> check_numa(const engine::Surveyed& survey, const NodeFacts& here);
std::uint64_t promised_to_others(const Context& context, const Key& key);  // and not taken yet
std::vector<std::string> check_ports(const engine::Surveyed& survey);
std::vector<std::string> check_pids(const engine::Surveyed& survey);
std::vector<std::string> check_socket_names(const engine::Surveyed& survey, const std::vector<std::string>& shared);
std::vector<std::string> check_locks(const engine::Surveyed& survey, const std::vector<std::string>& shared);
bool is_below(const std::string& path, const std::vector<std::string>& prefixes);

}  // namespace godwit::service
