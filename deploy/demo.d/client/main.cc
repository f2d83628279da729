// godwit-demo-client: the load, and the judge, of deploy/demo. Prints one JSON object.
//
//   load    fills a redis                    verify  compares every key with the log
//   write   writes until SIGTERM             replay  builds from the log what redis must hold
//                                            digest  DEBUG DIGEST
#include "common/base/log.h"
#include "deploy/demo.d/client/dataset.h"
#include "deploy/demo.d/client/writer.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>

namespace {

using namespace godwit;
using namespace godwit::demo;
using nlohmann::json;

std::atomic<bool> stop_asked = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

struct Settings {
  std::string address = "127.0.0.1:6379";
  std::string workload;
  std::uint16_t port = 6379;
  std::string log_path;
  std::uint32_t keys = 1000;
  std::size_t value_size = 1000;
  std::uint64_t seed = 1;
  std::uint32_t rate = 5000;
  bool go_on = false;
  std::vector<std::uint64_t> carried_out;

  Values values() const { return {seed, value_size}; }
  Connection connect() const { return Connection::connect(parse_address(address), std::chrono::seconds(10)); }
};

json do_load(const Settings& s) {
  Connection redis = s.connect();
  load(redis, s.values(), s.keys);
  return {{"keys", s.keys}, {"bytes", s.keys * s.value_size}};
}

json do_write(const Settings& s) {
  std::signal(SIGTERM, [](int) { stop_asked = true; });
  std::signal(SIGINT, [](int) { stop_asked = true; });
  const Values values = s.values();
  const Locator locator =
      s.workload.empty() ? Locator::at(parse_address(s.address)) : Locator::of_workload(s.workload, s.port);
  WriterOptions options;
  if (s.go_on)
    for (const LogRecord& record : read_log(s.log_path))
      options.first_version = std::max(options.first_version, record.version + 1);
  LogWriter log(s.log_path, s.go_on);
  options.keys = s.keys;
  options.per_second = s.rate;
  Writer writer(options, values, locator, log, s.seed);
  const WriterReport report = writer.run(stop_asked);
  return {{"acknowledged", report.acknowledged},
          {"unknown", report.unknown},
          {"refused", report.refused},
          {"reconnects", report.reconnects},
          {"seconds", report.seconds},
          {"blackout_ms", report.longest_gap_ms},
          {"second_longest_gap_ms", report.second_longest_gap_ms}};
}

json do_verify(const Settings& s) {
  const auto log = read_log(s.log_path);
  const auto count = [&](Outcome outcome) { return std::ranges::count(log, outcome, &LogRecord::outcome); };
  Connection redis = s.connect();
  const Verdict verdict = verify(redis, s.values(), s.keys, Expectation(s.keys, log));
  json versions = json::array();
  for (const Write& write : verdict.carried_out) versions.push_back(write.version);
  return {{"keys", verdict.keys},
          {"lost", verdict.lost},
          {"missing", verdict.missing},
          {"outdated", verdict.outdated},
          {"foreign", verdict.foreign},
          {"examples", verdict.examples},
          {"acknowledged", count(Outcome::acknowledged)},
          {"unknown", count(Outcome::unknown)},
          {"carried_out", versions}};
}

json do_replay(const Settings& s) {
  const auto log = read_log(s.log_path);
  std::vector<Write> carried_out;
  for (const LogRecord& record : log)
    if (std::ranges::find(s.carried_out, record.version) != s.carried_out.end())
      carried_out.push_back({.key = record.key, .version = record.version});
  Connection redis = s.connect();
  replay(redis, s.values(), s.keys, log, carried_out);
  return {{"records", log.size()}};
}

json do_digest(const Settings& s) {
  Connection redis = s.connect();
  return {{"digest", digest(redis)}};
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  CLI::App app("The load and the judge of Godwit's demo");
  app.require_subcommand(1);
  json (*job)(const Settings&) = nullptr;

  const auto verb = [&](const char* name, json (*run)(const Settings&)) {
    CLI::App* sub = app.add_subcommand(name);
    sub->add_option("--address", s.address, "HOST:PORT of redis");
    sub->add_option("--keys", s.keys);
    sub->add_option("--value-size", s.value_size, "bytes");
    sub->add_option("--seed", s.seed, "of the values");
    sub->add_option("--log", s.log_path, "of the writes");
    sub->callback([&job, run] { job = run; });
    return sub;
  };
  verb("load", do_load);
  CLI::App* write = verb("write", do_write);
  write->add_option("--workload", s.workload, "ask Godwit where this workload is");
  write->add_option("--port", s.port, "of the workload");
  write->add_option("--rate", s.rate, "SETs a second");
  write->add_flag("--go-on", s.go_on, "after what the log holds already");
  verb("verify", do_verify);
  verb("replay", do_replay)->add_option("--carried-out", s.carried_out, "versions of unknown writes that happened");
  verb("digest", do_digest);
  CLI11_PARSE(app, argc, argv);

  log::init("godwit-demo-client");
  try {
    std::cout << job(s).dump() << std::endl;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "godwit-demo-client: " << error.what() << "\n";
    return 1;
  }
}
