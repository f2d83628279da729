#include "agent/engine/job.h"

#include "agent/engine/control_socket.h"
#include "agent/engine/dump.h"
#include "agent/engine/holder/connect.h"
#include "agent/engine/memory/ring_sink.h"
#include "agent/engine/memory/aio_requests.h"
#include "agent/engine/ptrace/recover.h"
#include "agent/engine/restore.h"
#include "agent/engine/steps.h"
#include "agent/engine/survey.h"
#include "common/base/check.h"
#include "common/base/log.h"

#include <deque>
#include <optional>

#include <fcntl.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

using namespace std::chrono_literals;

// No frame for this long while one is awaited: the source or the page server is gone, and the agent did not say so.
constexpr auto absorb_patience = 60s;

resources::Options options_from(const Options& o) {
  resources::Options options;
  options.tcp_close = o.tcp_close();
  options.file_locks = true;
  if (o.ghost_limit()) options.ghost_limit = o.ghost_limit();
  return options;
}

class Job {
 public:
  explicit Job(UniqueFd control) : control_(std::move(control)) {}
  ~Job() { lift(); }

  int run() {
    while (!done_) {
      try {
        work();
      } catch (const Error& e) {
        if (e.errc() == Errc::peer_lost) throw;
        answer_failure(e);
      }
    }
    return 0;
  }

 private:
  // One command, or a little absorbing when there is none.
  void work() {
    if (commands_.empty()) {
      if (restore_ && absorb_some() && absorber_->full()) return;
      listen(restore_ && absorb_some() ? 0ms : restore_ && absorber_->waiting() ? 50ms : -1ms);
      return;
    }
    current_ = std::move(commands_.front());
    commands_.pop_front();
    Event event;
    execute(current_.command, current_.fds, event);
    event.set_id(current_.command.id());
    control_.send(event);
    current_ = {};
  }

  void answer_failure(const Error& e) {
    log::warn("job.failure", {{"code", name(e.errc())}, {"message", e.message()}});
    Event event;
    event.set_id(current_.command.id());
    event.mutable_failure()->set_code(std::string(name(e.errc())));
    event.mutable_failure()->set_message(e.message());
    event.mutable_failure()->set_hint(e.hint());
    control_.send(event);
    current_ = {};
    // What failed between commands (an absorbed frame) makes the skeleton worthless.
    if (broken_) done_ = true;
  }

  // Takes one packet. What is not answered is done at once, even in the middle of a command: acknowledgements free what
  // is owed, a lost agent ends the job.
  void listen(std::chrono::milliseconds limit) {
    std::optional<Received> packet = control_.receive(limit);
    if (!packet) return;
    const Command& c = packet->command;
    if (c.has_acknowledged()) {
      if (dump_) dump_->acknowledged(c.acknowledged().sequence());
    } else if (c.has_manifest()) {
      absorber().manifest(c.manifest().entries());
    } else if (c.has_stored()) {
      absorber().stored(c.stored().stream(), c.stored().upto());
    } else if (c.has_limited()) {
      limited_ = c.limited();
    } else {
      commands_.push_back(std::move(*packet));
    }
  }

  void execute(const Command& c, std::vector<UniqueFd>& fds, Event& event) {
    switch (c.body_case()) {
      case Command::kStart: return start(c.start(), fds, event);
      case Command::kSurvey: return do_survey(c.survey(), event);
      case Command::kRound: *event.mutable_round_done() = dump().round(c.round().number(), *sink_); return;
      case Command::kProbe: return probe(c.probe(), event);
      case Command::kFreeze: return freeze(c.freeze(), event);
      case Command::kThaw:
        dump().thaw();
        event.mutable_done();
        return;
      case Command::kPrepare: return prepare(c.prepare(), fds, event);
      case Command::kFinish: return finish(c.finish(), event);
      case Command::kRecover:
        recover(journal(), c.recover().cgroup(), c.recover().release(), finish_aio_look);
        event.mutable_done();
        return;
      case Command::kEnd:
        dump_.reset();
        restore_.reset();
        done_ = true;
        event.mutable_done();
        return;
      case Command::kAcknowledged:
      case Command::kManifest:
      case Command::kStored:
      case Command::kLimited:
      case Command::BODY_NOT_SET: break;
    }
    fail(Errc::protocol, "a command that this engine does not know");
  }

  void start(const Start& start, std::vector<UniqueFd>& fds, Event& event) {
    if (fds.empty()) fail(Errc::protocol, "a start without a journal");
    seed_ = start.seed();
    journal_.emplace(std::move(fds[0]));
    if (fds.size() >= 4) {
      ring_.emplace(pagewire::RingFds{std::move(fds[1]), std::move(fds[2]), std::move(fds[3])});
      sink_.emplace(*ring_, seed_, [this](std::chrono::milliseconds limit) { listen(limit); });
    }
    event.mutable_done();
  }

  void do_survey(const Survey& request, Event& event) {
    pid_ = request.pid();
    options_ = options_from(request.options());
    *event.mutable_surveyed() = survey(pid_, Orphans::included, options_);
  }

  // A dump of its own: what it tracks ends with it. Tracking by somebody else is left alone.
  void probe(const Probe& request, Event& event) {
    if (!pid_ || dump_) fail(Errc::protocol, "a probe comes between a survey and the first round");
    Dump passing(pid_, Orphans::included, options_, journal());
    const auto wait = [this](std::chrono::milliseconds length) {
      for (const auto until = Clock::now() + length; Clock::now() < until;)
        listen(std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()));
    };
    event.mutable_probed();
    for (DirtyPoint& point : passing.probe(std::chrono::milliseconds(request.milliseconds()), wait))
      *event.mutable_probed()->add_points() = std::move(point);
  }

  void freeze(const Freeze& request, Event& event) {
    const Cgroup cgroup(request.cgroup());
    dump().set_most_bytes(request.most_bytes());
    dump().set_longest_stop(std::chrono::nanoseconds(request.longest_stop_ns()));
    dump().set_before_stop([this] { lift(); });  // a task without CPU time stops late
    Dump::Frozen frozen =
        dump().freeze(request.number(), *sink_, std::chrono::milliseconds(request.child_patience_ms()));
    if (frozen.caught_up) *event.mutable_frozen()->mutable_caught_up() = *frozen.caught_up;
    event.mutable_frozen()->set_frozen_at_ns(frozen.at_ns);
    if (frozen.over_bytes > 0) {
      event.mutable_frozen()->set_over_bytes(frozen.over_bytes);
      event.mutable_frozen()->set_stopped_ns(frozen.stopped_ns);
      return;
    }
    dump().hold_in(cgroup);
    frozen.steps.lap("hold");
    *event.mutable_frozen()->mutable_round() = frozen.round;
    *event.mutable_frozen()->mutable_steps() = frozen.steps.list();
  }

  // The agent may have gone, or the group with it.
  void lift() {
    if (limited_.file().empty()) return;
    try {
      const UniqueFd file = open_file(limited_.file(), O_WRONLY);
      check(::write(file.get(), limited_.lifted().data(), limited_.lifted().size()), "write {}", limited_.file());
    } catch (const Error& e) {
      log::warn("job.lift", {{"message", e.message()}});
    }
    limited_.Clear();
  }

  void prepare(const Prepare& request, std::vector<UniqueFd>& fds, Event& event) {
    if (fds.empty() || (request.has_init() && fds.size() < 2))
      fail(Errc::protocol, "a prepare without its descriptors");
    absorber_.emplace(std::move(fds[0]), seed_, request.window());
    Surroundings surroundings;
    if (request.has_init()) surroundings.init = std::move(fds[1]);
    surroundings.cgroup = request.cgroup();
    restore_.emplace(std::move(surroundings));
    event.mutable_done();
  }

  bool absorb_some() {
    if (!restore_) return false;
    broken_ = true;
    const std::size_t n = absorber_->absorb(*restore_);
    broken_ = false;
    if (n) report_freed();
    return n != 0;
  }

  void report_freed() {
    const std::vector<Absorber::Freed> freed = absorber_->freed();
    if (freed.empty()) return;
    Event event;
    event.mutable_absorbed()->set_sequence(absorber_->absorbed());
    for (const Absorber::Freed& f : freed) {
      Released& r = *event.mutable_absorbed()->add_released();
      r.set_stream(f.stream);
      r.set_upto(f.upto);
    }
    control_.send(event);
  }

  void finish(const Finish& request, Event& event) {
    if (!restore_) fail(Errc::protocol, "a finish without a prepare");
    Steps steps;
    Clock::time_point progress = Clock::now();
    while (absorber_->absorbed() < request.sequence()) {
      if (absorb_some()) {
        progress = Clock::now();
        if (!absorber_->full()) listen(0ms);
        continue;
      }
      if (Clock::now() - progress > absorb_patience)
        fail(Errc::timed_out, "frame {} did not arrive, the last was {}", request.sequence(), absorber_->absorbed());
      listen(1ms);
    }
    steps.lap("absorb");
    broken_ = true;
    *event.mutable_prepared() = restore_->finish();
    broken_ = false;
    google::protobuf::RepeatedPtrField<Step> all = steps.list();
    all.MergeFrom(event.prepared().steps());
    event.mutable_prepared()->mutable_steps()->Swap(&all);
    done_ = true;  // the tasks need no engine any more
  }

  Journal& journal() {
    if (!journal_) fail(Errc::protocol, "no start came first");
    return *journal_;
  }
  Dump& dump() {
    if (!dump_) {
      if (!pid_ || !sink_) fail(Errc::protocol, "no survey came first");
      holder::dismiss(pid_);
      dump_.emplace(pid_, Orphans::included, options_, journal());
    }
    return *dump_;
  }
  Absorber& absorber() {
    if (!absorber_) fail(Errc::protocol, "no prepare came first");
    return *absorber_;
  }

  ControlSocket control_;
  std::deque<Received> commands_;
  Received current_;
  bool done_ = false, broken_ = false;
  std::uint64_t seed_ = 0;
  pid_t pid_ = 0;
  resources::Options options_;
  Limited limited_;
  std::optional<Journal> journal_;
  std::optional<pagewire::Ring> ring_;
  std::optional<RingSink> sink_;
  std::optional<Dump> dump_;
  std::optional<Absorber> absorber_;
  std::optional<Restore> restore_;
};

}  // namespace

int run_job(UniqueFd control) {
  Job job(std::move(control));
  try {
    return job.run();
  } catch (const Error& e) {
    if (e.errc() != Errc::peer_lost) throw;
    log::info("job.abandoned", {{"reason", e.message()}});  // the destructors put back what is borrowed
    return 1;
  }
}

}  // namespace godwit::engine
