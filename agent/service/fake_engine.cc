// For tests: a program that speaks agent/engine/job.proto and moves nothing but a `sleep`. It freezes and thaws the
// copy's cgroup, sends a few frames, checks those that arrive, and starts `sleep` in the namespaces it is given.
//
// The migration's id says what is to go wrong: "fail-freeze", "die-frozen" and so on. Not sanitized: it is killed.
#include "agent/engine/job.pb.h"
#include "agent/workload/cgroup.h"
#include "common/pagewire/ring.h"
#include "common/pagewire/wire.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <deque>
#include <map>
#include <optional>

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

using namespace godwit;
using namespace std::chrono_literals;

namespace {

constexpr int control = 3;
constexpr std::size_t payload_size = 64 * 1024;
constexpr std::uint64_t usual_frames = 20;  // in each round
constexpr std::uint64_t many_frames = 100;  // more than the ring holds

class FakeEngine {
 public:
  int run() {
    while (!done_) {
      step(begun_to_wait_ ? 20 : -1);
      absorb();
    }
    return 0;
  }

 private:
  void step(int limit_ms) {
    pollfd readable{.fd = control, .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, limit_ms) == 0) return;
    std::vector<UniqueFd> fds;
    const std::string bytes = receive(fds);
    engine::Command command;
    if (bytes.empty()) std::_Exit(1);  // the agent has gone; what is frozen stays so
    command.ParseFromString(bytes);
    engine::Event event;
    event.set_id(command.id());
    try {
      if (!execute(command, fds, event)) return;
    } catch (const Error& e) {
      event.mutable_failure()->set_code(std::string(name(e.errc())));
      event.mutable_failure()->set_message(e.message());
    }
    send(event);
    if (command.has_freeze()) misbehave("die-frozen");
  }

  bool execute(engine::Command& c, std::vector<UniqueFd>& fds, engine::Event& event) {
    switch (c.body_case()) {
      case engine::Command::kStart: start(c.start(), fds); break;
      case engine::Command::kSurvey: survey(c.survey(), *event.mutable_surveyed()); return true;
      case engine::Command::kProbe: probe(c.probe(), *event.mutable_probed()); return true;
      case engine::Command::kRound: round(c.round().number(), *event.mutable_round_done()); return true;
      case engine::Command::kFreeze: freeze(c.freeze(), *event.mutable_frozen()); return true;
      case engine::Command::kThaw:
        if (frozen_) frozen_->thaw(1s);
        break;
      case engine::Command::kPrepare: prepare(c.prepare(), fds); break;
      case engine::Command::kManifest: {
        for (auto& entry : pagewire::parse_manifest(c.manifest().entries())) {
          if (begun_to_wait_ && !entries_.empty() && entries_.front().header.round < entry.header.round)
            overtaken_ = true;
          entries_.push_back(std::move(entry));
        }
        absorb();
        return false;
      }
      case engine::Command::kStored:
        stored_[c.stored().stream()] = c.stored().upto();
        absorb();
        return false;
      case engine::Command::kLimited: limited_ = c.limited(); return false;
      case engine::Command::kFinish: finish(c.finish().sequence(), *event.mutable_prepared()); return true;
      case engine::Command::kRecover:
        if (c.recover().release() && !c.recover().cgroup().empty())
          workload::Cgroup::open(c.recover().cgroup())->thaw(1s);
        break;
      case engine::Command::kEnd: done_ = true; break;
      case engine::Command::kAcknowledged:
      case engine::Command::BODY_NOT_SET: return false;
    }
    event.mutable_done();
    return true;
  }

  void misbehave(const std::string& what) const {
    if (migration_.find(what) == std::string::npos) return;
    if (what.starts_with("die")) ::kill(::getpid(), SIGKILL);
    if (what.starts_with("hang")) ::sleep(3600);
    fail(Errc::internal, "told to {}", what);
  }

  void start(const engine::Start& start, std::vector<UniqueFd>& fds) {
    migration_ = start.migration();
    frames_ = migration_.find("large") == std::string::npos ? usual_frames : many_frames;
    seed_ = start.seed();
    if (fds.size() == 4) ring_.emplace(pagewire::RingFds{std::move(fds[1]), std::move(fds[2]), std::move(fds[3])});
  }

  void survey(const engine::Survey& request, engine::Surveyed& answer) {
    const proc::Reader reader(request.pid()), self(::getpid());
    std::vector<pid_t> tree{request.pid()};
    std::ranges::copy(reader.children(), std::back_inserter(tree));
    for (const pid_t pid : tree) {
      const proc::Reader one(pid);
      engine::Task& task = *answer.add_tasks();
      task.set_pid(pid);
      task.set_guest_pid(one.status().ns_pid.back());
      task.add_threads(one.status().ns_pid.back());
      task.set_comm(one.comm());
    }
    for (const char* ns : {"pid", "mnt", "ipc"}) {
      if (reader.link(std::string("ns/") + ns) != self.link(std::string("ns/") + ns)) answer.add_namespaces(ns);
    }
    if (migration_.find("future-cpu") != std::string::npos) answer.set_xfeatures(std::uint64_t{1} << 62);
    if (migration_.find("refuse-survey") == std::string::npos) return;
    engine::Refusal& refusal = *answer.add_refusals();
    refusal.set_pid(request.pid());
    refusal.set_what("fd 7: a unicorn");
    refusal.set_reason("cannot be carried");
  }

  void probe(const engine::Probe& request, engine::Probed& answer) {
    if (migration_.find("slow-probe") != std::string::npos) ::usleep(request.milliseconds() * 1000);
    misbehave("die-probe");
    misbehave("fail-probe");
    engine::DirtyPoint& point = *answer.add_points();
    point.set_nanoseconds(request.milliseconds() * 1'000'000ull);
    point.set_bytes(difference());
  }

  void emit(pagewire::FrameKind kind, std::uint32_t round, bool with_payload) {
    pagewire::FrameHeader header{.kind = kind, .sequence = ++sequence_, .round = round};
    std::string trailer;
    if (with_payload) {
      const pagewire::Run run{.address = sequence_ << 20, .pages = payload_size / page_size};
      header.runs = 1;
      header.object = pagewire::object_id(pagewire::ObjectType::task, 2);
      header.payload_length = payload_size;
      trailer.assign(reinterpret_cast<const char*>(&run), sizeof run);
    }
    const std::string payload(header.payload_length, static_cast<char>('a' + sequence_ % 26));
    header.checksum =
        pagewire::checksum(seed_, header, std::as_bytes(std::span(trailer)), std::as_bytes(std::span(payload)));
    const std::size_t length = pagewire::frame_length(header);
    const auto room = ring_->reserve(length, 60s);
    std::memcpy(room.data(), &header, sizeof header);
    std::memcpy(room.data() + sizeof header, trailer.data(), trailer.size());
    std::memcpy(room.data() + sizeof header + trailer.size(), payload.data(), payload.size());
    ring_->commit(length);
  }

  void round(std::uint32_t number, engine::RoundDone& done) {
    misbehave("die-round");
    misbehave("fail-round");
    misbehave("hang-round");
    for (std::uint64_t i = 0; i < frames_; ++i) emit(pagewire::FrameKind::pages, number, true);
    emit(pagewire::FrameKind::round, number, false);
    done.set_number(number);
    done.set_pages(difference() / page_size);
    done.set_bytes(difference());
    done.set_last_sequence(sequence_);
  }

  void freeze(const engine::Freeze& request, engine::Frozen& answer) {
    misbehave("fail-freeze");
    lift();
    const bool slow = request.longest_stop_ns() > 0 && migration_.find("slow-pages") != std::string::npos;
    if (slow || (request.most_bytes() > 0 && difference() > request.most_bytes())) {
      answer.set_over_bytes(difference());
      answer.set_stopped_ns(1);
      return;
    }
    answer.set_frozen_at_ns(monotonic_ns());
    frozen_ = workload::Cgroup::open(request.cgroup());
    frozen_->freeze(5s);
    misbehave("die-freeze");
    misbehave("hang-freeze");
    round(request.number(), *answer.mutable_round());
    engine::Step& step = *answer.add_steps();
    step.set_name("freeze");
    step.set_nanoseconds(monotonic_ns() - answer.frozen_at_ns());
  }

  void lift() {
    if (limited_.file().empty()) return;
    const UniqueFd file = open_file(limited_.file(), O_WRONLY);
    check(::write(file.get(), limited_.lifted().data(), limited_.lifted().size()), "lift");
    limited_.Clear();
  }

  void prepare(const engine::Prepare& request, std::vector<UniqueFd>& fds) {
    misbehave("fail-prepare");
    spool_ = std::move(fds.at(0));
    window_ = request.window();
    if (request.has_init()) init_ = std::move(fds.at(1));
    copy_ = workload::Cgroup::open(request.cgroup());
  }

  // In sequence order, as far as payloads have arrived; each is verified and its place given back.
  void absorb() {
    if (is_late()) return;
    engine::Event event;
    while (!entries_.empty()) {
      const pagewire::ManifestEntry& e = entries_.front();
      const std::uint32_t stream = e.header.stream;
      const std::uint64_t end = e.offset + e.header.payload_length;
      if (e.header.payload_length > 0 && stored_[stream] < end) break;
      std::string payload(e.header.payload_length, '\0');
      if (!payload.empty()) {
        UniqueFd file = open_beneath(spool_.get(), "stream-" + std::to_string(stream), O_RDONLY);
        const auto into = std::as_writable_bytes(std::span(payload));
        const pagewire::SpoolPlace place = pagewire::spool_place(window_, e.offset, payload.size());
        pread_exact(file.get(), into.first(place.first_length), static_cast<off_t>(place.first));
        pread_exact(file.get(), into.subspan(place.first_length), 0);
        engine::Released& released = *event.mutable_absorbed()->add_released();
        released.set_stream(stream);
        released.set_upto(end);
      }
      if (pagewire::checksum(seed_, e.header, std::as_bytes(std::span(e.runs)), std::as_bytes(std::span(payload))) !=
          e.header.checksum) {
        fail(Errc::image_corrupt, "frame {} fails its check", e.header.sequence);
      }
      absorbed_ = e.header.sequence;
      entries_.pop_front();
    }
    if (event.absorbed().released().empty()) return;
    event.mutable_absorbed()->set_sequence(absorbed_);
    send(event);
  }

  // "slow-absorb": nothing for a while, from when there is something.
  bool is_late() {
    if (migration_.find("slow-absorb") == std::string::npos || entries_.empty()) return false;
    if (!begun_to_wait_) begun_to_wait_ = Clock::now();
    return Clock::now() - *begun_to_wait_ < 300ms;
  }

  void finish(std::uint64_t sequence, engine::Prepared& answer) {
    misbehave("die-finish");
    misbehave("fail-finish");
    misbehave("hang-finish");
    for (int i = 0; migration_.find("slow-finish") != std::string::npos && i < 50; ++i) {
      ::usleep(100'000);
      engine::Event event;
      event.mutable_absorbed()->set_sequence(absorbed_);
      send(event);
    }
    if (overtaken_) fail(Errc::internal, "a round came before the former one was absorbed");
    if (absorbed_ < sequence) fail(Errc::internal, "absorbed {} of {} when told to finish", absorbed_, sequence);
    copy_->freeze(1s);
    add_sleep(2, answer);
    if (migration_.find("tree") != std::string::npos) add_sleep(3, answer);
    done_ = true;
  }

  void add_sleep(pid_t guest_pid, engine::Prepared& answer) {
    const auto told = [&](pid_t pid) {
      return std::ranges::any_of(answer.tasks(), [pid](const engine::Task& t) { return t.pid() == pid; });
    };
    start_sleep(guest_pid);
    for (;; ::usleep(1000)) {
      const std::vector<pid_t> pids = copy_->pids();
      const auto fresh = std::ranges::find_if(pids, [&](pid_t pid) { return !told(pid); });
      if (fresh == pids.end() || !copy_->frozen()) continue;
      engine::Task& task = *answer.add_tasks();
      task.set_pid(*fresh);
      task.set_guest_pid(guest_pid);
      return;
    }
  }

  // What the restored copy does when it is thawed.
  std::string life_of_the_copy() const {
    if (migration_.find("exit-thawed") != std::string::npos) return "exit 3";
    if (migration_.find("crash-thawed") != std::string::npos) return "kill -SEGV $$";
    return "exec sleep 600";
  }

  // The child of a child, so that the init of the namespaces becomes its parent when the one between has gone.
  void start_sleep(pid_t guest_pid) {
    const pid_t outer = ::fork();
    if (outer == 0) {
      if (init_ && ::setns(init_.get(), CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC) == -1) std::_Exit(1);
      if (clone_as(init_ ? 300 : 0, -1) == 0) {
        const long child = clone_as(init_ ? guest_pid : 0, copy_->dir());
        if (child == 0) {
          ::execl("/bin/sh", "sh", "-c", life_of_the_copy().c_str(), nullptr);
          std::_Exit(1);
        }
        std::_Exit(child > 0 ? 0 : 1);
      }
      int status = 0;
      ::wait(&status);
      std::_Exit(WEXITSTATUS(status));
    }
    int status = 0;
    ::waitpid(outer, &status, 0);
    if (status != 0) fail(Errc::internal, "cannot start sleep");
  }

  // With a PID of its own choice in the innermost namespace (0: any), and straight into a cgroup (-1: ours).
  static long clone_as(pid_t pid, int cgroup) {
    clone_args args{};
    args.exit_signal = SIGCHLD;
    if (cgroup >= 0) {
      args.flags = CLONE_INTO_CGROUP;
      args.cgroup = static_cast<std::uint64_t>(cgroup);
    }
    if (pid > 0) {
      args.set_tid = reinterpret_cast<std::uint64_t>(&pid);
      args.set_tid_size = 1;
    }
    return ::syscall(SYS_clone3, &args, sizeof args);
  }

  static std::string receive(std::vector<UniqueFd>& fds) {
    std::string bytes(256 * 1024, '\0');
    alignas(cmsghdr) char space[CMSG_SPACE(16 * sizeof(int))];
    iovec data{bytes.data(), bytes.size()};
    msghdr message{.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    const ssize_t n = ::recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); n > 0 && c; c = CMSG_NXTHDR(&message, c)) {
      for (std::size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        fds.emplace_back(reinterpret_cast<const int*>(CMSG_DATA(c))[i]);
      }
    }
    return bytes;
  }
  static void send(const engine::Event& event) {
    const std::string bytes = event.SerializeAsString();
    ::send(control, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

  std::uint64_t difference() const { return frames_ * payload_size; }

  std::string migration_;
  std::uint64_t frames_ = usual_frames;
  std::uint64_t seed_ = 0, sequence_ = 0, absorbed_ = 0;
  std::optional<Clock::time_point> begun_to_wait_;  // to absorb
  bool overtaken_ = false;                          // a round was announced before the former one was absorbed
  std::optional<pagewire::Ring> ring_;
  std::optional<workload::Cgroup> frozen_, copy_;
  UniqueFd spool_, init_;
  engine::Limited limited_;
  std::uint64_t window_ = 0;  // of the spool's files
  std::deque<pagewire::ManifestEntry> entries_;
  std::map<std::uint32_t, std::uint64_t> stored_;
  bool done_ = false;
};

}  // namespace

int main() { return FakeEngine().run(); }
