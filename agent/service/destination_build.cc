// What the destination makes before and while pages arrive: spool, page-server session, namespaces, restore job.
#include "agent/service/destination_migration.h"
#include "agent/service/preflight.h"
#include "agent/service/source_tree.h"
#include "agent/service/token.h"
#include "agent/transfer/spool.h"
#include "agent/workload/closed_network.h"
#include "common/base/log.h"
#include "common/pagewire/wire.h"

#include <algorithm>

#include <pwd.h>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

constexpr auto progress_interval = 250ms;
constexpr std::uint64_t furthest_ahead = 1u << 30;  // of what is stored: no window and no sockets hold so much

UniqueFd duplicate(const UniqueFd& fd) {
  return UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3), "duplicate a descriptor"));
}

UniqueFd spool_for(const std::string& user, std::uint64_t limit, unsigned streams) {
  const passwd* who = ::getpwnam(user.c_str());
  if (!who) fail(Errc::invalid_argument, "there is no user '{}' for the page server", user);
  return transfer::make_spool(limit, streams, who->pw_uid, who->pw_gid);
}

}  // namespace

net::awaitable<void> DestinationMigration::build() {
  const auto self = shared_from_this();
  make_own_log(context_, request_, survey_);
  const api::Options& options = request_.options();
  const unsigned streams = options.streams() ? options.streams() : default_streams;
  const std::uint64_t limit = options.spool_limit() ? options.spool_limit() : context_.options.spool_limit;
  const UniqueFd spool = spool_for(context_.options.page_server_user, limit, streams);
  session_token_ = random_token();
  const auto weak = weak_from_this();
  jobs::PageSession session{.migration = key_.migration,
                            .token_sha256 = sha256(text_of(session_token_)),
                            .spool_limit = limit,
                            .peer = request_.source_node(),
                            .streams = streams,
                            .stored =
                                [weak](std::uint32_t stream, std::uint64_t upto) {
                                  if (const auto s = weak.lock()) s->stored(stream, upto);
                                },
                            .ended =
                                [weak](std::optional<Error> error) {
                                  if (const auto s = weak.lock(); s && error) s->failed(std::move(*error));
                                }};
  co_await context_.pages->open(std::move(session), duplicate(spool));

  workload::Saved saved;
  *saved.mutable_info() = request_.workload();
  saved.mutable_info()->set_id(fmt::format("{}.{}", key_.migration, key_.epoch));
  saved.mutable_info()->set_guest_pid(survey_.tasks(0).guest_pid());
  saved.mutable_info()->set_pid(0);
  saved.set_cgroup(to_string(key_));
  UniqueFd init = co_await context_.workloads->build(std::move(saved), has_own_namespaces(survey_));
  co_await start_job(duplicate(spool), pagewire::spool_window(limit, streams), std::move(init));
}

// Until `resumed` is recorded: see open_network(). A kernel that does not let us is no reason not to move.
void DestinationMigration::close_network(const workload::Cgroup& copy) {
  try {
    workload::close_network(copy);
  } catch (const Error& e) {
    if (e.errc() != Errc::kernel_missing) throw;
    network_stays_open_ = e.message();
    log::warn("destination.network_stays_open", {{"migration", key_.migration}, {"message", e.message()}});
  }
}

net::awaitable<void> DestinationMigration::start_job(UniqueFd spool, std::uint64_t window, UniqueFd init) {
  const auto self = shared_from_this();
  const workload::Cgroup copy = workload::Cgroup::create(context_.cgroup(to_string(key_)));
  close_network(copy);
  jobs::EngineJobPlan plan{.program = context_.program("godwit-engine"),
                           .cgroup = context_.cgroup("jobs/" + to_string(key_)),
                           .journal = context_.journal(key_),
                           .migration = key_.migration,
                           .seed = request_.seed(),
                           .kind = jobs::JobKind::destination};
  job_ = jobs::EngineJob::start(context_.executor, std::move(plan), job_handlers());
  engine::Command command;
  engine::Prepare& prepare = *command.mutable_prepare();
  *prepare.mutable_options() = engine_options(request_.options());
  prepare.set_cgroup(copy.path());
  prepare.set_has_init(static_cast<bool>(init));
  prepare.set_window(window);
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(spool));
  if (init) fds.push_back(std::move(init));
  fds.push_back(UniqueFd(check(::fcntl(copy.dir(), F_DUPFD_CLOEXEC, 3), "duplicate a descriptor")));
  const auto job = job_;
  co_await job->ask(std::move(command), std::move(fds), context_.options.limits.finish);
}

jobs::EngineJob::Handlers DestinationMigration::job_handlers() {
  const auto weak = weak_from_this();
  return {.absorbed =
              [weak](engine::Absorbed a) {
                if (const auto self = weak.lock()) self->absorbed(a);
              },
          .died =
              [weak](Error error) {
                if (const auto self = weak.lock()) self->failed(std::move(error));
              }};
}

// In the order of arrival; while the job is behind, this waits, and with it the source.
net::awaitable<void> DestinationMigration::manifest(std::string entries) {
  const auto self = shared_from_this();
  heard_ = Clock::now();
  if (!job_ || phase() != DestinationPhase::building) co_return;
  for (const pagewire::ManifestEntry& e : pagewire::parse_manifest(entries)) {
    if (e.header.sequence <= manifest_sequence_)
      fail(Errc::protocol, "frame {} was announced twice", e.header.sequence);
    manifest_sequence_ = e.header.sequence;
    if (e.header.stream >= pagewire::max_streams)
      fail(Errc::protocol, "frame {} is announced in stream {}", e.header.sequence, e.header.stream);
    if (e.header.payload_length == 0) continue;
    const std::uint64_t stored = streams_[e.header.stream].stored;
    if (e.offset > stored && e.offset - stored > furthest_ahead)
      fail(Errc::protocol, "frame {} is announced at {}, {} are stored", e.header.sequence, e.offset, stored);
    std::uint64_t& needed = streams_[e.header.stream].needed;
    needed = std::max(needed, e.offset + e.header.payload_length);
  }
  engine::Command command;
  command.mutable_manifest()->set_entries(std::move(entries));
  const auto job = job_;
  job->post(command);
  changed_.notify();
  co_await job->room();
}

// The source, which is about to freeze, is not kept for ever: what is not absorbed by then is absorbed in the pause.
net::awaitable<api::Envelope> DestinationMigration::drain(api::Drain request) {
  const auto self = shared_from_this();
  const auto deadline = Clock::now() + std::min<Clock::duration>(std::chrono::milliseconds(request.limit_ms()), 1s);
  const auto behind = [this] {
    return std::ranges::any_of(streams_, [](const auto& s) { return s.second.absorbed < s.second.needed; });
  };
  while (behind() && phase() == DestinationPhase::building && !failure_ && Clock::now() < deadline)
    co_await changed_.wait_until(deadline);
  api::Envelope answer;
  answer.mutable_ok();
  co_return answer;
}

void DestinationMigration::stored(std::uint32_t stream, std::uint64_t upto) {
  heard_ = Clock::now();
  streams_[stream].stored = upto;
  changed_.notify();
  if (!job_ || !job_->alive()) return;
  engine::Command command;
  command.mutable_stored()->set_stream(stream);
  command.mutable_stored()->set_upto(upto);
  job_->post(command);
}

void DestinationMigration::absorbed(const engine::Absorbed& a) {
  absorbed_ = Clock::now();
  for (const engine::Released& r : a.released()) {
    streams_[r.stream()].absorbed = r.upto();
    context_.pages->released(key_.migration, r.stream(), r.upto());
  }
  changed_.notify();
  if (Clock::now() - told_ < progress_interval || phase() != DestinationPhase::building) return;
  told_ = Clock::now();
  api::Envelope notice;
  fill(notice.mutable_progress()->mutable_id(), key_);
  notice.mutable_progress()->set_phase("absorbing");
  context_.tell_coordinator(std::move(notice));
  tell_source();
}

}  // namespace godwit::service
