// For tests: two agents in this process, or three, each on a loop of its own, with a fake engine, real cgroups, inits
// and page servers. The test plays the coordinator. A crash drops an agent with everything that it was about to do.
#pragma once

#include "agent/service/agent.h"
#include "agent/service/dispatch.h"
#include "agent/service/test_programs.h"
#include "agent/workload/test_cgroup.h"
#include "tests/support/test_certs.h"

#include <boost/asio/io_context.hpp>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

namespace godwit::service {

class TestNode {
 public:
  TestNode(test::TestCerts& certs, const std::string& name, const std::string& directory) : cgroup_("agent-" + name) {
    namespace fs = std::filesystem;
    options.node = name;
    options.listen = options.pages = "127.0.0.1:0";
    options.certs = certs.node("spiffe://godwit/agent/" + name);
    options.state = directory + "/" + name;
    options.cgroup = cgroup_.path();
    options.spool_limit = 2u << 20;
    options.record_slots = 64;
    options.programs = options.state + "/programs";
    options.limits.ask_after = std::chrono::milliseconds(200);
    options.limits.refuse_after = std::chrono::seconds(60);  // on a busy machine nobody refuses within a test by itself
    options.limits.ask_interval = std::chrono::milliseconds(50);
    options.limits.undriven = std::chrono::seconds(60);
    fs::create_directories(options.programs);
    // By hand: the same moves with the real engine.
    const char* engine = std::getenv("GODWIT_TEST_ENGINE");
    fs::create_symlink(engine ? engine : test_programs::fake_engine, options.programs + "/godwit-engine");
    options.shared = {directory};
    fs::create_symlink(test_programs::init, options.programs + "/godwit-init");
    fs::create_symlink(test_programs::page_server, options.programs + "/godwit-pageserver");
    io = std::make_unique<boost::asio::io_context>(1);
    agent = std::make_unique<Agent>(io->get_executor(), options);
  }
  ~TestNode() { drop(); }

  void drop() {
    if (agent) agent->migrations().forget_all();
    agent.reset();
    io.reset();
  }
  void renew() {
    io = std::make_unique<boost::asio::io_context>(1);
    agent = std::make_unique<Agent>(io->get_executor(), options);
  }
  // Now, and after a restart.
  void refuse_after(Clock::duration time) {
    options.limits.refuse_after = time;
    if (agent) agent->context().options.limits.refuse_after = time;
  }
  workload::Workloads& workloads() { return *agent->context().workloads; }
  Records& records() { return agent->context().records; }

  AgentOptions options;
  std::unique_ptr<boost::asio::io_context> io;
  std::unique_ptr<Agent> agent;

 private:
  workload::TestCgroup cgroup_;
};

class TestPair {
 public:
  TestPair() : directory_(make_directory()), a(certs_, "a", directory_), b(certs_, "b", directory_) {
    start(a);
    start(b);
  }
  ~TestPair() {
    for (TestNode* node : nodes()) {
      if (node->agent) run(*node, node->agent->stop());
      node->drop();
    }
    std::filesystem::remove_all(directory_);
  }

  TestNode& add_third() {
    third_ = std::make_unique<TestNode>(certs_, "c", directory_);
    start(*third_);
    return *third_;
  }
  std::vector<TestNode*> nodes() {
    std::vector<TestNode*> all{&a, &b};
    if (third_) all.push_back(third_.get());
    return all;
  }

  void start(TestNode& node) { run(node, node.agent->start()); }
  void restart(TestNode& node) {
    node.drop();
    node.renew();
    start(node);
  }

  // Both loops turn until `work` has ended; what it throws is thrown.
  void run(TestNode& node, net::awaitable<void> work, Clock::duration limit = std::chrono::seconds(60)) {
    bool ended = false;
    std::exception_ptr problem;
    net::spawn(node.io->get_executor(), std::move(work), [&](std::exception_ptr p) {
      ended = true;
      problem = p;
    });
    if (!turn_until([&] { return ended; }, limit)) fail(Errc::timed_out, "the test did not end");
    if (problem) std::rethrow_exception(problem);
  }
  bool turn_until(const std::function<bool()>& met, Clock::duration limit = std::chrono::seconds(20)) {
    const auto deadline = Clock::now() + limit;
    while (!met()) {
      if (Clock::now() > deadline) return false;
      std::size_t work = 0;
      for (TestNode* node : nodes()) {
        if (!node->io) continue;
        node->io->restart();
        work += node->io->poll();
      }
      if (work == 0) ::usleep(200);
    }
    return true;
  }

  test::TestCerts& certs() { return certs_; }

  api::Envelope ask(TestNode& node, api::Envelope request) {
    api::Envelope answer;
    run(node, ask_into(*node.agent, std::move(request), answer));
    return answer;
  }

 private:
  static std::string make_directory() {
    char name[] = "/tmp/godwit-pair-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("cannot make a directory");
    std::filesystem::permissions(name, std::filesystem::perms(0755));
    return name;
  }
  static net::awaitable<void> ask_into(Agent& agent, api::Envelope request, api::Envelope& answer) {
    answer = co_await answer_coordinator(agent.context(), agent.migrations(), std::move(request));
  }

  test::TestCerts certs_;
  std::string directory_;

 public:
  TestNode a, b;

 private:
  std::unique_ptr<TestNode> third_;
};

}  // namespace godwit::service
