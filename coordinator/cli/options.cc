#include "coordinator/cli/options.h"

#include "common/base/error.h"
#include "common/base/units.h"
#include "coordinator/cli/exit_codes.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

namespace godwit::cli {
namespace {

using std::chrono::nanoseconds;

// CLI11 wants a message or nothing.
template <class Parse>
auto checked(Parse parse) {
  return [parse](const std::string& text) -> std::string {
    try {
      parse(text);
      return {};
    } catch (const Error& e) {
      return e.message();
    }
  };
}

// An id, or a workload's or node's name. It becomes part of a path, and an empty one (of a variable that is not set)
// must not stand for all.
std::string check_name(const std::string& text) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; };
  if (!text.empty() && std::ranges::all_of(text, allowed)) return {};
  return "'" + text + "' is neither an id nor the name of a workload or a node";
}

struct Texts {
  std::string downtime = "300ms", spool = "32M", rate_limit = "0", max_total_time = "0", probe = "0";
  std::string new_rate;
  std::string size, overhead = "30ms", round_cost = "5ms";
  std::vector<std::string> bandwidths;
};

// The values of options that are texts; those that were not given are left out.
void add_policy(CLI::App& app, PolicyChoice& choice, Texts& t) {
  app.add_option("--policy", choice.policy, "a named policy (see `godwit policies`); what follows overrides it");
  app.add_option("--downtime", t.downtime, "budget for the pause")
      ->default_str("300ms")
      ->check(checked(parse_duration))
      ->each([&choice](const std::string& text) { choice.downtime = parse_duration(text); });
  app.add_option("--rate-limit", t.rate_limit, "bytes per second, 0: none")
      ->check(checked(parse_bytes))
      ->each([&choice](const std::string& text) { choice.rate_limit = parse_bytes(text); });
  app.add_option("--max-rounds", choice.max_rounds, "most rounds of pre-copy, 0: stop and copy")
      ->default_str("30")
      ->check(CLI::Range(0, 1000));
  app.add_option("--max-total-time", t.max_total_time, "give up pre-copy after this, 0: never")
      ->check(checked(parse_duration))
      ->each([&choice](const std::string& text) { choice.max_total_time = parse_duration(text); });
  app.add_option("--on-no-progress", choice.on_no_progress,
                 "throttle: give the workload less and less CPU time; force: take the longer pause; or abort")
      ->default_str("abort")
      ->check(CLI::IsMember({"throttle", "force", "abort"}));
  app.add_option(
         "--probe", t.probe,
         "refuse when the first rounds, or of a dry run a look at what it writes, say after this long (10s at most) "
         "that the budget cannot be met, whatever --on-no-progress is; 0: no probe")
      ->check(checked(parse_duration))
      ->each([&choice](const std::string& text) { choice.probe = parse_duration(text); });
  app.add_option("--throttle-steps", choice.throttle_steps,
                 "percent of its CPU time, from one step to the next: 80,60,40,20")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 99));
}

void add_run(CLI::App& app, RunCommand& run) {
  app.add_option("--name", run.name, "name of the workload")->required();
  app.add_option("--on", run.node, "node that runs it")->required();
  app.add_option("--output", run.output, "file on that node for its standard output and error (appended)");
  app.add_option("--env", run.environment, "NAME=VALUE for its environment; may be repeated")->allow_extra_args(false);
  app.add_option("--cwd", run.directory, "its working directory")->capture_default_str();
  app.add_option("--user", run.user, "user to run as: UID, UID:GID or a name that this machine knows");
  app.add_option("argv", run.argv, "program and arguments, after --")->required();
}

// How to move, whatever is moved.
void add_moving(CLI::App& app, MigrateCommand& m, Texts& t) {
  app.add_flag("--tcp-close", m.tcp_close, "let established TCP connections be reset");
  add_policy(app, m.policy, t);
  app.add_option("--spool", t.spool, "most memory at the destination for pages in flight")
      ->capture_default_str()
      ->check(checked(parse_bytes));
  app.add_option("--streams", m.streams, "page streams")->capture_default_str()->check(CLI::Range(1, 16));
  app.add_option("--assume-shared", m.assume_shared, "path that both nodes see; may be repeated")
      ->allow_extra_args(false);
  app.add_option(
         "--if-lost", m.policy.if_lost,
         "when the destination's copy is lost after it may have run: thaw the source's, hold it for an operator, "
         "or auto: hold it if it may write files that both nodes share")
      ->default_str("auto")
      ->check(CLI::IsMember({"auto", "thaw", "hold"}));
  app.add_flag("--no-progress", m.no_progress, "print the report only");
}

void add_migrate(CLI::App& app, MigrateCommand& m, Texts& t) {
  app.add_option("workload", m.workload, "name of a workload, or a PID on the node given by --from")->required();
  app.add_option("--from", m.from, "node it runs on (needed for a PID)");
  app.add_option("--to", m.to, "node to move it to")->required();
  CLI::Option* dry_run = app.add_flag("--dry-run", m.dry_run,
                                      "say what would be refused and what it would cost; touch nothing, but for a "
                                      "--probe, whose end a large workload notices");
  app.add_flag("--rehearse", m.rehearse, "restore at the destination, verify, discard; the source goes on")
      ->excludes(dry_run);
  add_moving(app, m, t);
}

void add_evacuate(CLI::App& app, EvacuateCommand& e, Texts& t) {
  app.add_option("node", e.node, "node to empty; it is cordoned")->required()->check(check_name);
  app.add_option("--to", e.to, "node that may take some; may be repeated. Any, when left out")
      ->allow_extra_args(false)
      ->check(check_name);
  app.add_option("--parallel", e.parallel, "migrations at once")->capture_default_str()->check(CLI::Range(1, 16));
  app.add_flag("--dry-run", e.dry_run, "show the plan; touch nothing");
  add_moving(app, e.options, t);
}

void add_watch(CLI::App& app, WatchCommand& watch) {
  app.add_option("migration", watch.which,
                 "its id, or its workload, or a node that is being evacuated; may be left out when it is the only one")
      ->check(check_name);
  app.add_flag("--no-progress", watch.no_progress, "print the report only");
}

void add_resolve(CLI::App& app, ResolveCommand& resolve) {
  app.add_option("migration", resolve.which, "its id, or its workload")->required()->check(check_name);
  CLI::Option* destination =
      app.add_flag("--destination-is-off", resolve.destination_is_off,
                   "state that the destination's node is powered off, or was rebooted: not merely cut off, or without "
                   "its agent. Of a node that lives two copies would run");
  CLI::Option* source =
      app.add_flag("--source-is-off", resolve.source_is_off,
                   "state the same of the source's node: the copy that is prepared at the destination runs then, from "
                   "where the source's was stopped")
          ->excludes(destination);
  app.add_flag("--go-on", resolve.go_on,
               "of a workload that is held because its copy at the destination was lost after it may have run: let it "
               "go on from before what that one has written")
      ->excludes(destination)
      ->excludes(source);
  app.add_option("--at", resolve.at, "source that holds the workload: for when the coordinator has lost its journal")
      ->excludes(source)
      ->check(check_name);
}

void add_history(CLI::App& app, HistoryCommand& history) {
  app.add_option("migration", history.which, "report this one; with a workload's name, list those of this workload")
      ->check(check_name);
  app.add_option("--limit", history.limit, "how many")->capture_default_str()->check(CLI::Range(1, 1000));
}

void add_simulate(CLI::App& app, SimulateCommand& simulate, Texts& t) {
  app.add_option("--trace", simulate.trace, "what the workload writes: a trace, or the report of a migration")
      ->required();
  app.add_option("--bandwidth", t.bandwidths, "of the path: 100Mbit, 2.5Gbit, or bytes per second; may be repeated")
      ->required()
      ->allow_extra_args(false)
      ->check(checked(parse_bandwidth));
  app.add_option("--size", t.size, "memory of the workload instead of the trace's own")->check(checked(parse_bytes));
  add_policy(app, simulate.policy, t);
  app.add_option("--config", simulate.config, "the coordinator's configuration, where --policy is looked up");
  app.add_option("--overhead", t.overhead, "of a pause without pages: freeze, restore, commit")
      ->capture_default_str()
      ->check(checked(parse_duration));
  app.add_option("--round-cost", t.round_cost, "of a round that sends nothing")
      ->capture_default_str()
      ->check(checked(parse_duration));
}

}  // namespace

nanoseconds parse_duration(const std::string& text) {
  struct Unit {
    const char* suffix;
    double nanoseconds;
  };
  constexpr std::array units{Unit{"us", 1e3}, Unit{"ms", 1e6},   Unit{"s", 1e9},
                             Unit{"m", 60e9}, Unit{"h", 3600e9}, Unit{"", 1e6}};
  std::size_t used = 0;
  double number = -1;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
  }
  for (const Unit& unit : units)
    if (used > 0 && text.substr(used) == unit.suffix && number >= 0 && number * unit.nanoseconds < 1e17)
      return nanoseconds(std::llround(number * unit.nanoseconds));
  fail(Errc::invalid_argument, "'{}' is not a duration: write 300ms, 1.5s or 2m", text);
}

double parse_bandwidth(const std::string& text) {
  struct Unit {
    std::string_view suffix;
    double bits;
  };
  constexpr std::array units{Unit{"kbit", 1e3}, Unit{"Mbit", 1e6}, Unit{"Gbit", 1e9}};
  for (const Unit& unit : units)
    if (text.ends_with(unit.suffix)) {
      std::size_t used = 0;
      double number = -1;
      try {
        number = std::stod(text, &used);
      } catch (const std::exception&) {
      }
      if (used + unit.suffix.size() == text.size() && number > 0 && number * unit.bits < 1e16)
        return number * unit.bits / 8;
      fail(Errc::invalid_argument, "'{}' is no bandwidth: write 100Mbit, 2.5Gbit or 12M", text);
    }
  const std::uint64_t bytes = parse_bytes(text);
  if (bytes == 0) fail(Errc::invalid_argument, "a bandwidth of 0 moves nothing");
  return static_cast<double>(bytes);
}

std::optional<Options> parse(int argc, const char* const* argv, int& exit_code) {
  Options options;
  RunCommand run;
  KillCommand kill;
  MigrateCommand migrate;
  WatchCommand watch;
  CancelCommand cancel;
  ResolveCommand resolve;
  HistoryCommand history;
  RateCommand rate;
  SimulateCommand simulate;
  std::string node;
  EvacuateCommand evacuate;
  Texts texts, evacuate_texts;

  CLI::App app("Moves running Linux processes between hosts, live.", "godwit");
  app.set_version_flag("--version", "godwit " GODWIT_VERSION);
  app.require_subcommand(1);
  app.fallthrough();  // --json and --coordinator may also stand behind the command
  app.add_option("--coordinator", options.coordinator, "HOST:PORT of its API")
      ->envname("GODWIT_COORDINATOR")
      ->capture_default_str();
  app.add_option("--certs", options.certs, "directory with ca.crt, node.crt, node.key")->envname("GODWIT_CERTS");
  app.add_flag("--json", options.json, "print JSON");
  app.footer(
      "Without a daemon, as root: godwit dump, pre-dump, restore, dedup, check, cpuinfo, image, kill -t, resume.\n"
      "Exit codes: 0 done, 1 failed and rolled back, 2 bad command line, 3 refused, 4 no coordinator, 5 outcome "
      "unknown.");

  app.add_subcommand("nodes", "list the nodes");
  CLI::App* cordon_app = app.add_subcommand("cordon", "let a node take no new workloads; what it has stays");
  CLI::App* uncordon_app = app.add_subcommand("uncordon", "let a node take workloads again");
  for (CLI::App* sub : {cordon_app, uncordon_app})
    sub->add_option("node", node, "name of the node")->required()->check(check_name);
  app.add_subcommand("ps", "list the workloads");
  app.add_subcommand("policies", "list the named policies of the coordinator's configuration");
  add_run(*app.add_subcommand("run", "start a workload"), run);
  CLI::App* kill_app = app.add_subcommand("kill", "signal a workload");
  kill_app->add_option("name", kill.name, "name of the workload")->required();
  kill_app->add_option("--from", kill.from, "node it runs on");
  kill_app->add_option("--signal,-s", kill.signal, "signal number")->capture_default_str()->check(CLI::Range(1, 64));
  add_migrate(*app.add_subcommand("migrate", "move a workload to another node, live"), migrate, texts);
  add_evacuate(*app.add_subcommand("evacuate", "move every workload of a node elsewhere"), evacuate, evacuate_texts);
  add_watch(*app.add_subcommand("watch", "follow a migration to its end"), watch);
  CLI::App* cancel_app = app.add_subcommand("cancel", "roll back a migration, or end an evacuation, that is under way");
  cancel_app->add_option("migration", cancel.which, "its id, or its workload; or the node that is being evacuated")
      ->required()
      ->check(check_name);
  add_resolve(*app.add_subcommand("resolve", "let a frozen workload run again whose destination never comes back"),
              resolve);
  CLI::App* rate_app =
      app.add_subcommand("rate", "change how fast pages may be sent, by a migration or by all that leave a node");
  rate_app->add_option("migration", rate.which, "its id, or its workload; a node with --node")
      ->required()
      ->check(check_name);
  rate_app->add_flag("--node", rate.node, "it is a node: what all migrations that leave it may send together");
  rate_app->add_option("rate", texts.new_rate, "bytes per second, 0: no limit")
      ->required()
      ->check(checked(parse_bytes));
  add_history(*app.add_subcommand("history", "list past migrations, or report one"), history);
  CLI::App* simulate_app = app.add_subcommand("simulate", "the rounds a migration would make, from a trace; no daemon");
  add_simulate(*simulate_app, simulate, texts);

  try {
    app.parse(argc, argv);
    if (options.certs.empty() && !simulate_app->parsed()) throw CLI::RequiredError("--certs (or GODWIT_CERTS)");
  } catch (const CLI::ParseError& e) {
    exit_code = app.exit(e) == 0 ? exit_done : exit_usage;
    return std::nullopt;
  }
  migrate.spool = parse_bytes(texts.spool);
  evacuate.options.spool = parse_bytes(evacuate_texts.spool);
  if (!texts.size.empty()) simulate.size = parse_bytes(texts.size);
  for (const std::string& bandwidth : texts.bandwidths) simulate.bandwidths.push_back(parse_bandwidth(bandwidth));
  simulate.overhead = parse_duration(texts.overhead);
  simulate.round_cost = parse_duration(texts.round_cost);
  const std::string command = app.get_subcommands().front()->get_name();
  if (command == "nodes") options.command = NodesCommand{};
  if (command == "cordon" || command == "uncordon") options.command = CordonCommand{node, command == "cordon"};
  if (command == "ps") options.command = PsCommand{};
  if (command == "policies") options.command = PoliciesCommand{};
  if (command == "run") options.command = run;
  if (command == "kill") options.command = kill;
  if (command == "migrate") options.command = migrate;
  if (command == "evacuate") options.command = evacuate;
  if (command == "watch") options.command = watch;
  if (command == "cancel") options.command = cancel;
  if (command == "resolve") options.command = resolve;
  if (command == "history") options.command = history;
  if (command == "rate") {
    rate.rate_limit = parse_bytes(texts.new_rate);
    options.command = rate;
  }
  if (command == "simulate") options.command = simulate;
  return options;
}

}  // namespace godwit::cli
