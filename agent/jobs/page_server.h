// Runs and supervises godwit-pageserver: one process for all migrations into this node, started again when it dies.
//
// A session belongs to the process that it was opened in: when that dies, the session ends with Errc::peer_lost and
// the migration that it served fails with it. On the executor's thread.
#pragma once

#include "agent/jobs/packet_link.h"
#include "agent/workload/spawn.h"
#include "pageserver/control.pb.h"

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace godwit::jobs {

struct PageServerPlan {
  std::string program;  // godwit-pageserver
  std::string listen;   // HOST:PORT
  std::string certs;
  std::string user = "nobody";
  std::string cgroup;  // made here
};

struct PageSession {
  std::string migration;
  std::array<std::uint8_t, 32> token_sha256{};
  std::uint64_t spool_limit = 0;
  std::string peer;
  std::uint32_t streams = 0;
  std::function<void(std::uint32_t stream, std::uint64_t upto)> stored;
  std::function<void(std::optional<Error>)> ended;  // nothing: the peer said goodbye
};

class PageServer : public std::enable_shared_from_this<PageServer> {
 public:
  static std::shared_ptr<PageServer> start(net::Executor executor, PageServerPlan plan);

  // Waits for the process to listen; Errc::timed_out, or peer_lost when it dies meanwhile.
  net::awaitable<void> open(PageSession session, UniqueFd spool);
  void released(const std::string& migration, std::uint32_t stream, std::uint64_t upto);
  net::awaitable<void> close(std::string migration);  // harmless when there is none

  net::awaitable<std::string> address();  // where it listens
  net::awaitable<void> stop();
  pid_t pid() const { return child_.pid; }

  PageServer(net::Executor executor, PageServerPlan plan)
      : executor_(executor), plan_(std::move(plan)), changed_(executor) {}

 private:
  struct Session {
    PageSession plan;
    bool opened = false;
    bool closed = false;
    std::optional<Error> refusal;
  };

  net::awaitable<void> supervise();
  void start_process();
  void arrived(net::Packet packet);
  void end_sessions(const Error& error);
  void post(const pageserver::ToServer& message, std::vector<UniqueFd> fds = {});

  net::Executor executor_;
  PageServerPlan plan_;
  net::Signal changed_;
  workload::Child child_;
  std::shared_ptr<PacketLink> link_;
  std::optional<std::string> listening_;
  std::map<std::string, std::shared_ptr<Session>> sessions_;
  bool stopping_ = false;
  bool stopped_ = false;
};

}  // namespace godwit::jobs
