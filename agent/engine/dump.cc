#include "agent/engine/dump.h"

#include "agent/engine/resources/direct_io.h"
#include "agent/engine/survey.h"
#include "agent/engine/tasks/hidden.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <thread>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds first_pause = 20ms, longest_pause = 200ms;

constexpr std::uint64_t most_to_catch_up = 256u << 20;  // more is no tail of what was sent
constexpr std::uint64_t few_pages = 64;
constexpr unsigned most_catch_ups = 10;
constexpr std::uint64_t enough_ns = 1'000'000'000;
constexpr std::uint64_t catch_up_limit_ns = 5'000'000'000;  // for the destination to say that it has everything

// What a program is, as far as an exec changes it.
std::string program_of(pid_t pid) {
  const proc::Reader proc(pid);
  const proc::Stat s = proc.stat();
  std::string text = fmt::format("{} {:x} {:x} {:x}", proc.link("exe"), s.start_code, s.start_stack, s.env_start);
  for (const std::uint64_t word : proc.auxv()) text += fmt::format(" {:x}", word);
  return text;
}

RoundDone describe(std::uint32_t number, const RoundCount& count) {
  RoundDone done;
  done.set_number(number);
  done.set_pages(count.emitted.pages);
  done.set_zero_pages(count.emitted.zero_pages);
  done.set_bytes(count.emitted.bytes);
  done.set_nanoseconds(count.nanoseconds);
  done.set_regions(count.scanned.regions);
  return done;
}

}  // namespace

Dump::Dump(pid_t pid, resources::Options options, Journal& journal)
    : pid_(pid),
      options_(std::move(options)),
      journal_(journal),
      pidfd_(static_cast<int>(check(::syscall(SYS_pidfd_open, pid, 0), "open process {}", pid))) {}

Dump::~Dump() = default;

bool Dump::same_program() { return memory_->still_there() && program_of(pid_) == program_; }

bool Dump::tracking() { return memory_ && same_program(); }

HeldPages Dump::held() const { return memory_ ? memory_->held() : HeldPages{}; }

UniqueFd Dump::make_userfaultfd(RemoteSyscalls& leader) {
  try {
    return inject_userfaultfd(leader, pidfd_.get());
  } catch (const Error& e) {
    if (e.errc() != Errc::kernel_missing && e.errc() != Errc::busy) throw;
    log::warn("tracker.none",
              {{"pid", pid_}, {"reason", e.message()}, {"consequence", "every round sends everything"}});
    return {};
  }
}

void Dump::begin_memory(UniqueFd userfaultfd) {
  const proc::Status status = proc::Reader(pid_).status();
  memory_ = std::make_unique<TaskMemory>(pid_, status.ns_pid.empty() ? pid_ : status.ns_pid.back(),
                                         std::move(userfaultfd), ids_);
  program_ = program_of(pid_);
}

// Makes a tracker in the task, which needs one injected call.
void Dump::track() {
  Hold hold(pid_, journal_, calls_, hold_options_);
  tasks::refuse_hidden(hold);
  begin_memory(make_userfaultfd(hold.leader()));
  hold.release();
}

// What a read with O_DIRECT brings is written by a device, past the page tables: of one that is under way while its
// pages are protected and copied, the rest goes unseen. In a stopped task none is.
RoundCount Dump::running_round(PageSink& sink) {
  direct_reads_ = direct_reads_ || resources::reads_directly(pid_);
  if (direct_reads_)
    return memory_->round_with_stop(sink,
                                    [this] { return std::make_shared<Hold>(pid_, journal_, calls_, hold_options_); });
  const RoundCount count = memory_->round(sink, false);
  if (resources::reads_directly(pid_)) {  // since when, nobody knows
    direct_reads_ = true;
    memory_->start_over();
  }
  return count;
}

RoundCount Dump::emit_round(PageSink& sink, bool frozen) {
  try {
    return frozen ? memory_->last_round(sink, most_bytes_) : running_round(sink);
  } catch (...) {
    // A scan consumes what it reports: after one that did not come to its end, nobody knows what was written.
    begin_again();
    throw;
  }
}

RoundDone Dump::round(std::uint32_t number, PageSink& sink) {
  Doing doing("round {}", number);
  sink.set_round(number);
  const bool first = !memory_;
  if (first || !same_program()) {
    if (!first) sink.file(fmt::format("{}reset", layout_prefix), "");  // an exec: nothing of what was sent is left
    track();
  }
  RoundDone done = describe(number, emit_round(sink, false));
  sink.end_round();
  dirty_bytes_ = memory_->dirty_bytes();
  done.set_dirty_bytes_after(dirty_bytes_);
  done.set_last_sequence(sink.last_sequence());
  return done;
}

// Looking at a large memory takes longer than the pause should (smaps: 30 ms per GiB), and meanwhile the task writes.
// What it wrote goes ahead of the freeze, again and again as long as that leaves less, so that the last difference does
// not grow with the size. No messages to the coordinator lie between these rounds, which else would be most of them.
void Dump::catch_up(std::uint32_t number, PageSink& sink) {
  if (!sink.live() || !memory_->tracked() || dirty_bytes_ > most_to_catch_up) return;
  const std::uint64_t begun = monotonic_ns();
  std::uint64_t pages = ~0ull, before;  // the first one also has what was written during the look
  unsigned rounds = 0;
  do {
    before = std::exchange(pages, catch_up_once(number, sink));
  } while (pages > few_pages && pages < before - before / 5 && ++rounds < most_catch_ups &&
           monotonic_ns() - begun < enough_ns);
}

std::uint64_t Dump::catch_up_once(std::uint32_t number, PageSink& sink) {
  const std::uint64_t begun = monotonic_ns();
  RoundDone done = describe(number, emit_round(sink, false));
  sink.end_round();
  const std::uint64_t emitted = monotonic_ns();
  while (!memory_->all_acknowledged() && monotonic_ns() - emitted < catch_up_limit_ns) sink.wait();
  done.set_nanoseconds(monotonic_ns() - begun);
  if (!caught_up_) caught_up_.emplace().set_number(number);
  caught_up_->set_pages(caught_up_->pages() + done.pages());
  caught_up_->set_zero_pages(caught_up_->zero_pages() + done.zero_pages());
  caught_up_->set_bytes(caught_up_->bytes() + done.bytes());
  caught_up_->set_nanoseconds(caught_up_->nanoseconds() + done.nanoseconds());
  return done.pages();
}

Dump::Frozen Dump::freeze(std::uint32_t number, PageSink& sink, std::chrono::milliseconds patience, Tracking tracking) {
  Doing doing("freezing process {}", pid_);
  sink.set_round(number);
  caught_up_.reset();
  const std::uint64_t deadline = monotonic_ns() + static_cast<std::uint64_t>(patience.count()) * 1'000'000;
  // Every attempt stops the task for a moment: less and less often.
  for (auto pause = first_pause;; pause = std::min(2 * pause, longest_pause)) {
    bool emitting = false;
    try {
      return freeze_once(number, sink, tracking, emitting);
    } catch (const Error& e) {
      if (e.errc() != Errc::busy || emitting || monotonic_ns() > deadline) throw;
      log::info("dump.busy", {{"pid", pid_}, {"reason", e.message()}});
    }
    std::this_thread::sleep_for(pause);
  }
}

Dump::Frozen Dump::freeze_once(std::uint32_t number, PageSink& sink, Tracking tracking, bool& emitting) {
  refuse_children(pid_);
  const bool first = !memory_ || !same_program();
  if (first && memory_) sink.file(fmt::format("{}reset", layout_prefix), "");
  if (first) begin_memory({});
  memory_->look();
  if (!first) {
    emitting = true;
    catch_up(number, sink);
    emitting = false;
  }
  tasks::FactsReader facts;
  if (before_stop_) before_stop_();
  hold_ = std::make_unique<Hold>(pid_, journal_, calls_, hold_options_);
  try {
    // From here on nothing of the task runs.
    refuse_children(pid_);  // one may have been born before everything stood still
    Frozen frozen{.round = {}, .steps = Steps(hold_->stopped_at_ns()), .at_ns = hold_->stopped_at_ns()};
    frozen.steps.lap("stop");
    fault::point("engine.dump.frozen");
    if (!same_program()) fail(Errc::busy, "it ran another program just now");
    std::vector<pid_t> tids;
    for (const HeldThread& t : hold_->threads()) tids.push_back(t.tid);
    facts.begin(pid_, std::move(tids));
    if (first && tracking == Tracking::begin) memory_->track(make_userfaultfd(hold_->leader()));

    image::ImageSet images;
    ids_.begin_descriptors();
    const resources::StoppedTask stopped{
        .pid = pid_, .pidfd = pidfd_.get(), .guest_pid = memory_->guest_pid(), .files_id = root_files_id};
    for (const std::string& notice : resources::dump_fds(stopped, ids_, images, options_))
      log::warn("dump.notice", {{"what", notice}});
    frozen.steps.lap("descriptors");

    // After the descriptors, which may lead to more shared memory, and before the rest, which is read while pages are
    // on their way. Injected calls change nothing of what was sent, but for the CPU number that the kernel keeps in a
    // thread's rseq area: it writes that anew wherever the thread goes on.
    emitting = true;
    const RoundCount count = emit_round(sink, true);
    if (count.over_bytes > 0) {
      run_on(frozen, count, sink);
      if (first) {
        sink.file(fmt::format("{}reset", layout_prefix), "");  // what of it was sent is forgotten here, too
        begin_again();
      }
      return frozen;
    }
    frozen.round = describe(number, count);
    frozen.steps.lap("memory");

    const tasks::Facts known = facts.take();
    resources::dump_fs(stopped, known.at(pid_).status.umask, ids_, images);
    TaskState state = dump_task(*hold_, known, ids_);
    frozen.steps.lap("tasks");
    fault::point("engine.dump.state");

    memory_->describe(state.mm);
    write_task(state, images);
    ids_.write(images);
    for (const auto& [name, bytes] : images.files()) sink.file(name, bytes);
    sink.end_round();
    frozen.round.set_last_sequence(sink.last_sequence());
    frozen.steps.lap("images");
    if (caught_up_) caught_up_->set_dirty_bytes_after(frozen.round.bytes());
    frozen.caught_up = caught_up_;
    return frozen;
  } catch (...) {
    hold_.reset();
    if (first) begin_again();  // the next attempt is the first one again
    throw;
  }
}

// Nothing of its state has been sent yet, only pages: the attempt was a round with a stop.
void Dump::run_on(Frozen& frozen, const RoundCount& count, PageSink& sink) {
  release();
  frozen.over_bytes = count.over_bytes;
  frozen.stopped_ns = monotonic_ns() - frozen.at_ns;
  sink.end_round();
  if (caught_up_) caught_up_->set_dirty_bytes_after(count.over_bytes);
  frozen.caught_up = caught_up_;
}

void Dump::hold_in(const Cgroup& cgroup) {
  fault::point("engine.dump.held");
  cgroup_ = cgroup;
  hold_->release_frozen(cgroup);
  hold_.reset();
}

void Dump::release() {
  hold_->release();
  hold_.reset();
}

void Dump::leave_stopped() {
  hold_->leave_stopped();
  hold_.reset();
}

void Dump::thaw() {
  if (hold_) release();
  if (cgroup_) cgroup_->thaw();
  if (memory_) memory_->owe_unacknowledged();
}

void Dump::kill() {
  check(::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0), "kill process {}", pid_);
  // A traced thread that has ended waits for its tracer first.
  for (const HeldThread& t : hold_->threads())
    for (int i = 0; i < 2000 && ::waitpid(t.tid, nullptr, __WALL | WNOHANG) == 0; i++) ::usleep(100);
  hold_->gone();
  hold_.reset();
  pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ended, 1, 5000) != 1) fail(Errc::timed_out, "process {} did not end", pid_);
}

void Dump::acknowledged(std::uint64_t sequence) {
  if (memory_) memory_->acknowledged(sequence);
}

void Dump::owe_unacknowledged() {
  if (memory_) memory_->owe_unacknowledged();
}

}  // namespace godwit::engine
