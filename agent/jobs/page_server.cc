#include "agent/jobs/page_server.h"

#include "agent/jobs/server_words.h"
#include "agent/workload/cgroup.h"
#include "agent/workload/process.h"
#include "common/base/log.h"

#include <algorithm>
#include <csignal>

#include <sys/socket.h>

namespace godwit::jobs {
namespace {

using namespace std::chrono_literals;

constexpr auto start_limit = 10s;  // to bind and read certificates; longer means that it never will
constexpr auto close_limit = 5s;
constexpr auto least_pause = 100ms;
constexpr auto most_pause = 5s;
constexpr auto lived_well = 30s;  // then the next death starts with the least pause again

// Empty when there are no descriptors left, which is logged.
UniqueFd duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) log::error("page_server.watch", {{"message", "no descriptor is left"}});
  return copy;
}

net::awaitable<void> keep(std::shared_ptr<PageServer> server, net::awaitable<void> work) { co_await std::move(work); }

}  // namespace

std::shared_ptr<PageServer> PageServer::start(net::Executor executor, PageServerPlan plan) {
  auto server = std::make_shared<PageServer>(executor, std::move(plan));
  server->start_process();
  net::spawn(executor, "page_server.supervise", keep(server, server->supervise()));
  return server;
}

void PageServer::start_process() {
  const workload::Cgroup cgroup = workload::Cgroup::create(plan_.cgroup);
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  child_ = workload::spawn(
      {.program = plan_.program,
       .arguments = {"--control-fd", "3", "--listen", plan_.listen, "--certs", plan_.certs, "--user", plan_.user},
       .environment = workload::own_environment(),
       .fds = {theirs.get()},
       .cgroup = cgroup.dir()});
  const std::weak_ptr<PageServer> weak = weak_from_this();
  link_ = PacketLink::start(executor_, std::move(ours), {.arrived = [weak](net::Packet packet) {
                              if (const auto server = weak.lock()) server->arrived(std::move(packet));
                            }});
}

net::awaitable<void> PageServer::supervise() {
  Clock::duration pause = least_pause;
  for (;;) {
    const auto started = Clock::now();
    UniqueFd process = duplicate(child_.pidfd.get());
    while (!process && !stopping_) {
      co_await net::sleep_for(most_pause / 5);
      process = duplicate(child_.pidfd.get());
    }
    if (!process) break;
    const std::string how = co_await workload::process_ended(std::move(process));
    link_->close();
    listening_.reset();
    end_sessions(Error(Errc::peer_lost, fmt::format("the page server {}", how)));
    if (stopping_) break;
    log::error("page_server.died", {{"pid", child_.pid}, {"how", how}});
    pause = Clock::now() - started > lived_well ? Clock::duration(least_pause)
                                                : std::min<Clock::duration>(2 * pause, most_pause);
    co_await net::sleep_for(pause);
    if (stopping_) break;
    try {
      start_process();
    } catch (const Error& e) {
      log::error("page_server.start", {{"message", e.message()}});
    }
  }
  stopped_ = true;
  changed_.notify();
}

net::awaitable<std::string> PageServer::address() {
  const auto self = shared_from_this();
  const auto deadline = Clock::now() + start_limit;
  while (!listening_ && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  if (!listening_) fail(Errc::timed_out, "the page server does not listen on {}", plan_.listen);
  co_return *listening_;
}

net::awaitable<void> PageServer::open(PageSession plan, UniqueFd spool) {
  const auto self = shared_from_this();
  co_await address();
  const std::string migration = plan.migration;
  if (sessions_.contains(migration)) fail(Errc::already_exists, "migration {} has a page-server session", migration);
  pageserver::ToServer message;
  pageserver::Open& open = *message.mutable_open();
  open.set_migration(migration);
  open.set_token_sha256(plan.token_sha256.data(), plan.token_sha256.size());
  open.set_spool_limit(plan.spool_limit);
  open.set_peer(plan.peer);
  open.set_max_streams(plan.streams);
  const auto session = std::make_shared<Session>();
  session->plan = std::move(plan);
  sessions_[migration] = session;
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(spool));
  post(message, std::move(fds));
  const auto deadline = Clock::now() + start_limit;
  while (!session->opened && !session->closed && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  if (session->opened) co_return;
  sessions_.erase(migration);
  if (session->refusal) throw *session->refusal;
  fail(session->closed ? Errc::peer_lost : Errc::timed_out, "the page server did not open a session");
}

void PageServer::released(const std::string& migration, std::uint32_t stream, std::uint64_t upto) {
  pageserver::ToServer message;
  message.mutable_released()->set_migration(migration);
  message.mutable_released()->set_stream(stream);
  message.mutable_released()->set_upto(upto);
  post(message);
}

net::awaitable<void> PageServer::close(std::string migration) {
  const auto self = shared_from_this();
  const auto found = sessions_.find(migration);
  if (found == sessions_.end()) co_return;
  const std::shared_ptr<Session> session = found->second;
  session->plan.stored = {};
  session->plan.ended = {};
  pageserver::ToServer message;
  message.mutable_close()->set_migration(migration);
  post(message);
  const auto deadline = Clock::now() + close_limit;
  while (!session->closed && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  sessions_.erase(migration);
}

void PageServer::arrived(net::Packet packet) {
  pageserver::FromServer message;
  try {
    message = parse_server_words(packet.bytes);
  } catch (const Error& e) {
    log::error("page_server.unreadable", {{"message", e.message()}});
    workload::send_signal(child_.pidfd.get(), SIGKILL);
    return;
  }
  const auto session_of = [this](const std::string& migration) {
    const auto found = sessions_.find(migration);
    return found == sessions_.end() ? nullptr : found->second;
  };
  switch (message.body_case()) {
    case pageserver::FromServer::kListening:
      listening_ = message.listening().address();
      log::info("page_server.listening", {{"address", *listening_}, {"pid", child_.pid}});
      break;
    case pageserver::FromServer::kOpened:
      if (const auto s = session_of(message.opened().migration())) s->opened = true;
      break;
    case pageserver::FromServer::kStored:
      if (const auto s = session_of(message.stored().migration()); s && s->plan.stored) {
        s->plan.stored(message.stored().stream(), message.stored().upto());
      }
      return;
    case pageserver::FromServer::kSessionEnded:
      if (const auto s = session_of(message.session_ended().migration())) {
        const pageserver::SessionEnded& e = message.session_ended();
        const auto error =
            e.code().empty() ? std::nullopt : std::optional(Error(errc_from_name(e.code()), e.message()));
        const auto ended = std::exchange(s->plan.ended, {});
        if (!s->opened) {  // open() says why
          s->refusal = error;
          s->closed = true;
        } else if (ended) {
          ended(error);
        }
      }
      break;
    case pageserver::FromServer::kClosed:
      if (const auto s = session_of(message.closed().migration())) s->closed = true;
      break;
    case pageserver::FromServer::BODY_NOT_SET: break;
  }
  changed_.notify();
}

void PageServer::end_sessions(const Error& error) {
  const auto sessions = std::move(sessions_);
  sessions_.clear();
  for (const auto& [migration, session] : sessions) {
    session->closed = true;
    if (session->plan.ended) session->plan.ended(error);
  }
  changed_.notify();
}

void PageServer::post(const pageserver::ToServer& message, std::vector<UniqueFd> fds) {
  if (link_) link_->post(message.SerializeAsString(), std::move(fds));
}

net::awaitable<void> PageServer::stop() {
  const auto self = shared_from_this();
  stopping_ = true;
  workload::send_signal(child_.pidfd.get(), SIGTERM);
  const auto deadline = Clock::now() + close_limit;
  while (!stopped_ && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  if (!stopped_) workload::send_signal(child_.pidfd.get(), SIGKILL);
}

}  // namespace godwit::jobs
