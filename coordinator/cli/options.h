// The command line of `godwit`, as values. Parsing does nothing else.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace godwit::cli {

struct NodesCommand {};
struct CordonCommand {
  std::string node;
  bool on = true;
};
struct PsCommand {};
struct PoliciesCommand {};
struct RunCommand {
  std::string name, node, output, user;
  std::string directory = "/";
  std::vector<std::string> environment, argv;
};
struct KillCommand {
  std::string name, from;
  unsigned signal = 15;
};
// What a migration may spend. What is not given is the coordinator's to choose.
struct PolicyChoice {
  std::optional<std::string> policy;  // by name
  std::optional<std::chrono::nanoseconds> downtime, max_total_time, probe;
  std::optional<unsigned> max_rounds;
  std::optional<std::string> on_no_progress, if_lost;
  std::optional<std::uint64_t> rate_limit;
  std::vector<unsigned> throttle_steps;  // empty: not given
};
struct MigrateCommand {
  std::string workload;  // or a PID in digits
  std::string from, to;
  bool tcp_close = false;
  PolicyChoice policy;
  std::uint64_t spool = 32u << 20;
  unsigned streams = 2;
  std::vector<std::string> assume_shared;
  bool no_progress = false;
  bool dry_run = false;
  bool rehearse = false;
};
struct EvacuateCommand {
  std::string node;
  std::vector<std::string> to;  // empty: any
  unsigned parallel = 1;
  bool dry_run = false;
  MigrateCommand options;  // of each migration; says neither what nor where
};
struct WatchCommand {
  std::string which;  // a migration's id, a workload, or a node that is being evacuated; empty: the only one
  bool no_progress = false;
};
struct CancelCommand {
  std::string which;  // a migration's id or a workload
};
struct ResolveCommand {
  std::string which;  // a migration's id or a workload
  bool destination_is_off = false;
  bool source_is_off = false;
  bool go_on = false;
  std::string at;  // the source that holds it, when the coordinator does not know of the migration
};
struct RateCommand {
  std::string which;  // a migration's id or a workload, or
  bool node = false;  // a node: all that leave it
  std::uint64_t rate_limit = 0;
};
struct HistoryCommand {
  std::string which;  // a migration's id or a workload; empty: all
  unsigned limit = 20;
};
struct SimulateCommand {
  std::string trace;
  std::optional<std::uint64_t> size;
  std::vector<double> bandwidths;  // bytes per second
  PolicyChoice policy;
  std::string config;  // the coordinator's, for a policy by name
  std::chrono::nanoseconds overhead = std::chrono::milliseconds(30);
  std::chrono::nanoseconds round_cost = std::chrono::milliseconds(5);
};

struct Options {
  std::string coordinator = "127.0.0.1:7441";
  std::string certs;
  bool json = false;
  std::variant<NodesCommand, CordonCommand, PsCommand, RunCommand, KillCommand, MigrateCommand, EvacuateCommand,
               WatchCommand, CancelCommand, ResolveCommand, HistoryCommand, RateCommand, SimulateCommand,
               PoliciesCommand>
      command;
};

// Nothing when there is nothing to do (--help, --version) or the line is bad; `exit_code` says which. Both are
// explained on standard output or error.
std::optional<Options> parse(int argc, const char* const* argv, int& exit_code);

// "300ms", "1.5s", "2m"; a plain number is milliseconds. Errc::invalid_argument.
std::chrono::nanoseconds parse_duration(const std::string& text);

// "100Mbit", "2.5Gbit", or bytes: "12M", "1GiB". Bytes per second, more than 0. Errc::invalid_argument.
double parse_bandwidth(const std::string& text);

}  // namespace godwit::cli
