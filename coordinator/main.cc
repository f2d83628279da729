// godwit-coordinator: agents dial in at --listen, operators at --api; the journal lies in --state, named policies
// in --config.
#include "common/base/log.h"
#include "common/base/standard_streams.h"
#include "coordinator/api/api.h"
#include "coordinator/service/agents.h"

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <csignal>
#include <cstdio>
#include <filesystem>

namespace godwit::coordinator {
namespace {

using namespace std::chrono_literals;

// Long enough for a pause that has begun to end; systemd waits 90 s.
constexpr auto grace = 20s;

struct Options {
  std::string listen = "0.0.0.0:7440";
  std::string api = "0.0.0.0:7441";
  std::string certs;
  std::string state;
  std::string config;
  bool verbose = false;
};

// A file that is wrong changes nothing: what was read before stays.
void reload(const std::string& config, Policies& policies) {
  if (config.empty()) return log::info("coordinator.nothing_to_reload");
  try {
    policies = read_policies(config);
    log::info("coordinator.reloaded", {{"file", config}, {"policies", policies.size()}});
  } catch (const Error& e) {
    log::error("coordinator.reload_failed", {{"code", name(e.errc())}, {"message", e.message()}});
  }
}

net::awaitable<void> run_until_signal(net::asio::io_context& io, net::asio::signal_set& signals, Driver& driver,
                                      net::Listener& agents, net::HttpServer& api, const std::string& config,
                                      Policies& policies) {
  int signal = co_await signals.async_wait(net::asio::use_awaitable);
  while (signal == SIGHUP) {
    reload(config, policies);
    signal = co_await signals.async_wait(net::asio::use_awaitable);
  }
  log::info("coordinator.stopping", {{"signal", signal}});
  api.close();
  co_await driver.stop(grace);
  // Watchers read the last events before the connections go.
  co_await net::sleep_for(100ms);
  agents.close();
  io.stop();
}

void serve(const Options& options) {
  std::filesystem::create_directories(options.state);
  const net::TlsContext tls = net::TlsContext::load(options.certs);
  net::require(tls.self(), "coordinator");

  Policies policies;
  if (!options.config.empty()) policies = read_policies(options.config);

  // The order is that of destruction backwards: what coroutines still hold when the io_context goes needs the store.
  Store store(options.state + "/journal.db");
  net::asio::io_context io{1};
  net::asio::signal_set signals(io, SIGTERM, SIGINT, SIGHUP);  // from here on none is lost
  Registry registry(store);
  Driver driver(io.get_executor(), store, registry);
  AgentService agents(io.get_executor(), registry, driver);
  Evacuations evacuations(io.get_executor(), registry, driver, store, agents);
  Api api(store, registry, driver, agents, evacuations, policies);

  net::Listener listener(io.get_executor(), "agents", net::parse_address(options.listen), tls);
  listener.start([&agents](net::Connection c) { return agents.serve(std::move(c)); });
  net::HttpServer server(io.get_executor(), net::parse_address(options.api), tls,
                         [&api](net::HttpRequest r) { return api.handle(std::move(r)); });
  log::info("coordinator.ready",
            {{"agents", net::to_string(listener.endpoint())}, {"api", net::to_string(server.endpoint())}});
  driver.resume();
  evacuations.resume();
  net::spawn(io.get_executor(), "coordinator",
             run_until_signal(io, signals, driver, listener, server, options.config, policies));
  io.run();
  log::info("coordinator.stopped");
}

}  // namespace
}  // namespace godwit::coordinator

int main(int argc, char** argv) {
  using namespace godwit;
  open_standard_streams();
  ::signal(SIGPIPE, SIG_IGN);
  coordinator::Options options;
  CLI::App app("Knows nodes and workloads, drives migrations, journals every step.", "godwit-coordinator");
  app.add_option("--listen", options.listen, "where agents dial in")->capture_default_str();
  app.add_option("--api", options.api, "where operators ask (HTTPS)")->capture_default_str();
  app.add_option("--certs", options.certs, "directory with ca.crt, node.crt, node.key")
      ->required()
      ->envname("GODWIT_CERTS");
  app.add_option("--state", options.state, "directory of the journal")->required();
  app.add_option("--config", options.config, "file with named policies (JSON); read again on SIGHUP");
  app.add_flag("--verbose", options.verbose, "log more");
  CLI11_PARSE(app, argc, argv);
  log::init("coordinator", options.verbose ? log::Level::debug : log::Level::info);
  try {
    coordinator::serve(options);
  } catch (const Error& e) {
    std::fprintf(stderr, "godwit-coordinator: %s\n", e.what());
    if (!e.hint().empty()) std::fprintf(stderr, "hint: %s\n", e.hint().c_str());
    return e.errc() == Errc::invalid_argument ? 2 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "godwit-coordinator: %s\n", e.what());
    return 1;
  }
}
