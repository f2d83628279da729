#include "agent/jobs/engine_job.h"

#include "agent/workload/process.h"
#include "common/base/log.h"

#include <algorithm>
#include <csignal>

#include <sys/socket.h>

namespace godwit::jobs {
namespace {

using namespace std::chrono_literals;

// A killed job must take its tracees apart first, which takes the longer the more memory they have.
constexpr auto kill_limit = 30s;

UniqueFd duplicate(const UniqueFd& fd) {
  return UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3), "duplicate a descriptor"));
}

net::awaitable<void> keep(std::shared_ptr<EngineJob> job, net::awaitable<void> work) { co_await std::move(work); }

}  // namespace

std::shared_ptr<EngineJob> EngineJob::start(net::Executor executor, EngineJobPlan plan, Handlers handlers) {
  auto job = std::make_shared<EngineJob>(executor);
  job->handlers_ = std::move(handlers);
  job->start_engine(plan);
  net::spawn(executor, "engine_job.watch", keep(job, job->watch(duplicate(job->child_.pidfd))));
  return job;
}

void EngineJob::start_engine(const EngineJobPlan& plan) {
  cgroup_ = plan.cgroup;
  const workload::Cgroup cgroup = workload::Cgroup::create(plan.cgroup);
  UniqueFd journal = open_file(plan.journal, O_RDWR | O_CREAT, 0600);
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  child_ = workload::spawn({.program = plan.program,
                            .arguments = {"job", "--control-fd", "3"},
                            .environment = workload::own_environment(),
                            .fds = {theirs.get()},
                            .cgroup = cgroup.dir()});
  const std::weak_ptr<EngineJob> weak = weak_from_this();
  link_ = PacketLink::start(executor_, std::move(ours),
                            {.arrived =
                                 [weak](net::Packet packet) {
                                   if (const auto job = weak.lock()) job->arrived(std::move(packet));
                                 },
                             .closed =
                                 [weak] {
                                   const auto job = weak.lock();
                                   if (!job) return;
                                   job->socket_closed_ = true;
                                   job->changed_.notify();
                                 }});
  engine::Command command;
  command.set_id(next_id_++);
  command.mutable_start()->set_migration(plan.migration);
  command.mutable_start()->set_seed(plan.seed);
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(journal));
  if (plan.kind == JobKind::source) {
    ring_ = pagewire::make_ring();
    fds.push_back(duplicate(ring_.memory));
    fds.push_back(duplicate(ring_.data));
    fds.push_back(duplicate(ring_.space));
  }
  link_->post(command.SerializeAsString(), std::move(fds));
}

EngineJob::~EngineJob() {
  if (link_) link_->close();
}

net::awaitable<engine::Event> EngineJob::ask(engine::Command command, std::vector<UniqueFd> fds, Clock::duration limit,
                                             Moved moved) {
  const auto self = shared_from_this();
  if (dead_) fail(Errc::internal, "the engine job has ended");
  const auto pending = std::make_shared<Pending>();
  const std::uint64_t id = next_id_++;
  pending_[id] = pending;
  command.set_id(id);
  const int what = command.body_case();
  link_->post(command.SerializeAsString(), std::move(fds));
  const auto asked = Clock::now();
  const auto deadline = [&] { return (moved ? std::max(asked, moved()) : asked) + limit; };
  while (!pending->answer && !pending->problem) {
    if (co_await changed_.wait_until(deadline()) || Clock::now() < deadline()) continue;
    pending_.erase(id);
    const auto* field = engine::Command::descriptor()->FindFieldByNumber(what);
    fail(Errc::timed_out, "the engine did not {} within {:.3g} s{}", field ? field->name() : "answer",
         std::chrono::duration<double>(limit).count(), moved ? " of the last progress" : "");
  }
  pending_.erase(id);
  if (pending->problem) throw *pending->problem;
  co_return std::move(*pending->answer);
}

void EngineJob::post(const engine::Command& command) { link_->post(command.SerializeAsString()); }

void EngineJob::arrived(net::Packet packet) {
  engine::Event event;
  if (!event.ParseFromString(packet.bytes)) {
    log::error("engine_job.unreadable", {{"bytes", packet.bytes.size()}});
    workload::send_signal(child_.pidfd.get(), SIGKILL);
    return;
  }
  const auto handlers = handlers_;
  if (event.has_absorbed() && event.id() == 0) {
    if (handlers.absorbed) handlers.absorbed(std::move(*event.mutable_absorbed()));
    return;
  }
  const auto error_of = [](const engine::Failure& f) { return Error(errc_from_name(f.code()), f.message(), f.hint()); };
  const auto found = pending_.find(event.id());
  if (found == pending_.end()) {
    if (event.has_failure()) last_words_ = error_of(event.failure());
    return;
  }
  // The last word of a destination job: it lets go of the tasks and exits.
  if (event.has_prepared()) ending_ = true;
  if (event.has_failure()) {
    found->second->problem = error_of(event.failure());
  } else {
    found->second->answer = std::move(event);
  }
  changed_.notify();
}

// What it said before it ended counts: the socket is read to its end first. A restored task that kept the socket
// would hold it open, so that wait has an end.
net::awaitable<void> EngineJob::watch(UniqueFd pidfd) {
  const std::string how = co_await workload::process_ended(std::move(pidfd));
  const auto deadline = Clock::now() + 1s;
  while (!socket_closed_ && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  dead_ = true;
  link_->close();
  const Error error = last_words_.value_or(Error(Errc::internal, fmt::format("the engine job {}", how)));
  if (!ending_) log::warn("engine_job.died", {{"pid", child_.pid}, {"how", how}});
  fail_all(error);
  if (const auto cgroup = workload::Cgroup::open(cgroup_)) cgroup->remove();
  const auto died = std::move(handlers_.died);
  handlers_ = {};
  if (died && !ending_) died(error);
}

void EngineJob::fail_all(const Error& error) {
  for (const auto& [id, pending] : pending_) {
    if (!pending->answer) pending->problem = error;
  }
  pending_.clear();
  changed_.notify();
}

net::awaitable<bool> EngineJob::wait_dead(Clock::duration limit) {
  const auto deadline = Clock::now() + limit;
  while (!dead_ && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  co_return dead_;
}

net::awaitable<bool> EngineJob::end(Clock::duration limit) {
  const auto self = shared_from_this();
  ending_ = true;
  bool well = false;
  if (!dead_) {
    engine::Command command;
    command.mutable_end();
    try {
      co_await ask(std::move(command), {}, limit);
      well = true;
    } catch (const Error& e) {
      log::warn("engine_job.end", {{"message", e.message()}});
    }
  }
  if (!co_await wait_dead(1s)) co_await kill();
  co_return well;
}

void EngineJob::interrupt() {
  ending_ = true;
  if (!dead_) workload::send_signal(child_.pidfd.get(), SIGKILL);
}

net::awaitable<void> EngineJob::kill() {
  const auto self = shared_from_this();
  ending_ = true;
  if (dead_) co_return;
  workload::send_signal(child_.pidfd.get(), SIGKILL);
  if (!co_await wait_dead(kill_limit)) fail(Errc::timed_out, "the engine job {} does not die", child_.pid);
}

}  // namespace godwit::jobs
