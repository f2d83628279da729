// A whole coordinator in the test's own thread with two fake agents: real TLS, real HTTPS, real SQLite.
#pragma once

#include "common/net/test_loop.h"
#include "coordinator/api/api.h"
#include "coordinator/testing/fake_agent.h"
#include "tests/support/test_certs.h"

#include <boost/asio/io_context.hpp>

#include <filesystem>
#include <optional>

#include <stdlib.h>

namespace godwit::coordinator {

// Short enough for a test, long enough for a machine under load.
inline Limits short_limits() {
  using namespace std::chrono_literals;
  return {.survey = 1s,
          .prepare = 1s,
          .connect = 1s,
          .stall = 1s,
          .pause = 500ms,
          .arm = 500ms,
          .commit = 500ms,
          .question = 500ms,
          .interval = 20ms,
          .patience = 1500ms,
          .farewell = 300ms,
          .resolve = 1s,
          .child_patience_ms = 100};
}

inline test::TestCerts& shared_certs() {
  static test::TestCerts certs;  // keys take a while to make
  return certs;
}

inline net::TlsContext tls_of(const std::string& who) {
  return net::TlsContext::load(shared_certs().node("spiffe://godwit/" + who));
}

struct Daemon {
  Policies policies;
  Registry registry;
  Driver driver;
  AgentService agents;
  Evacuations evacuations;
  Api api;
  net::Listener listener;
  net::HttpServer http;

  Daemon(net::asio::io_context& io, Store& store, const Limits& limits, const std::string& port = "0")
      : registry(store),
        driver(io.get_executor(), store, registry, limits),
        agents(io.get_executor(), registry, driver),
        evacuations(io.get_executor(), registry, driver, store, agents),
        api(store, registry, driver, agents, evacuations, policies),
        listener(io.get_executor(), "agents", {"127.0.0.1", port}, tls_of("coordinator")),
        http(io.get_executor(), {"127.0.0.1", "0"}, tls_of("coordinator"),
             [this](net::HttpRequest r) { return api.handle(std::move(r)); }) {
    listener.start([this](net::Connection c) { return agents.serve(std::move(c)); });
  }
  net::Address agents_address() const { return net::parse_address(net::to_string(listener.endpoint())); }
  net::Address api_address() const { return net::parse_address(net::to_string(http.endpoint())); }
};

class Cluster {
 public:
  explicit Cluster(Limits limits = short_limits(), const std::string& journal = ":memory:")
      : store(journal),
        daemon(io, store, limits),
        a(io.get_executor(), "a", daemon.agents_address(), tls_of("agent/a")),
        b(io.get_executor(), "b", daemon.agents_address(), tls_of("agent/b")) {
    a.peer = &b;
    b.peer = &a;
    api::WorkloadInfo redis;
    redis.set_name("redis");
    redis.set_id("run.3");
    redis.set_state("running");
    a.workloads.push_back(redis);
    a.start();
    b.start();
    until([this] { return a.registered() && b.registered(); });
  }

  // Runs the loop until `done` says so; fails the test by exception after ten seconds.
  void until(const std::function<bool()>& done, Clock::duration limit = std::chrono::seconds(10)) {
    const Clock::time_point deadline = Clock::now() + limit;
    while (!done() && Clock::now() < deadline) io.run_one_for(std::chrono::milliseconds(10));
    if (!done()) fail(Errc::timed_out, "the test waited in vain");
  }

  MigrationSpec to_b() const {
    MigrationSpec spec;
    spec.workload = "redis";
    spec.destination = "b";
    return spec;
  }

  Migration finish(const std::string& id) {
    until([&] { return !daemon.driver.find(id); });
    return store.migration(id).value();
  }
  Migration migrate() { return finish(daemon.driver.start(to_b())); }

  net::HttpResponse request(net::HttpRequest r, const std::string& who = "operator/ann") {
    net::HttpResponse response;
    net::run_to_end(io, ask(&response, std::move(r), tls_of(who)));
    return response;
  }

  Store store;
  net::asio::io_context io{1};
  Daemon daemon;
  FakeAgent a, b;

 private:
  net::awaitable<void> ask(net::HttpResponse* response, net::HttpRequest r, net::TlsContext tls) {
    *response = co_await net::http_request(daemon.api_address(), std::move(tls), std::move(r), std::chrono::seconds(5));
  }
};

}  // namespace godwit::coordinator
