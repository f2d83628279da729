// godwit-agent: one per node, as root. docs/architecture.md says what it does and what its options mean.
#include "agent/engine/holder/connect.h"
#include "agent/service/agent.h"
#include "common/base/log.h"
#include "common/base/standard_streams.h"

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <csignal>
#include <cstdio>

namespace {

using namespace godwit;

net::awaitable<void> run(service::Agent& agent) {
  boost::asio::signal_set signals(co_await boost::asio::this_coro::executor, SIGTERM, SIGINT);
  co_await agent.start();
  co_await signals.async_wait(boost::asio::use_awaitable);
  co_await agent.stop();
}

struct Options {
  service::AgentOptions agent;
  std::string trackers = engine::holder::agent_socket;
};

Options parse(int argc, char** argv) {
  Options options;
  service::AgentOptions& o = options.agent;
  std::string spool_limit = "32M", rate_limit = "0";
  CLI::App app("Godwit's agent: moves the workloads of this node to others, and takes in theirs", "godwit-agent");
  app.add_option("--node", o.node, "this node's name, as in its certificate")->required();
  app.add_option("--coordinator", o.coordinator, "ADDR:PORT of the coordinator")->required();
  app.add_option("--listen", o.listen, "ADDR:PORT for other agents; the address is what they dial")->required();
  app.add_option("--pages", o.pages, "ADDR:PORT of the page server, which the agent starts")->required();
  app.add_option("--certs", o.certs, "directory with ca.crt, node.crt, node.key")->required();
  app.add_option("--state", o.state, "directory for records and logs, on a disk that survives")->required();
  app.add_option("--cgroup", o.cgroup, "a cgroup (v2) directory of its own")->required();
  app.add_option("--spool-limit", spool_limit, "memory for pages that have arrived and are not yet in place");
  app.add_option("--rate-limit", rate_limit,
                 "bytes per second that the migrations from here may send together, 0: no limit");
  app.add_option("--shared", o.shared, "a path that all nodes share; may be repeated");
  app.add_option("--programs", o.programs, "directory of godwit-engine, godwit-init and godwit-pageserver");
  app.add_option("--trackers", options.trackers, "socket for dumps by hand that need a tracker kept")
      ->capture_default_str();
  app.add_option("--user", o.page_server_user, "that the page server runs as");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    std::exit(app.exit(e) == 0 ? 0 : 2);
  }
  o.spool_limit = parse_bytes(spool_limit);
  o.rate_limit = parse_bytes(rate_limit);
  if (o.programs.empty()) {
    o.programs = workload::sibling_program("");
    o.programs.pop_back();
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  survive_broken_pipes();
  log::init("godwit-agent");
  try {
    boost::asio::io_context io(1);
    Options options = parse(argc, argv);
    service::Agent agent(io.get_executor(), std::move(options.agent), std::move(options.trackers));
    std::exception_ptr problem;
    net::spawn(io.get_executor(), run(agent), [&](std::exception_ptr p) {
      problem = p;
      io.stop();
    });
    io.run();
    if (problem) std::rethrow_exception(problem);
    return 0;
  } catch (const Error& e) {
    log::error("agent.failed", {{"code", name(e.errc())}, {"message", e.message()}, {"hint", e.hint()}});
    return 1;
  } catch (const std::exception& e) {
    log::error("agent.failed", {{"message", e.what()}});
    return 1;
  }
}
