#include "agent/engine/source_task.h"

#include "agent/engine/memory/aio_ring.h"
#include "agent/engine/program.h"
#include "agent/engine/resources/direct_io.h"
#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <algorithm>

#include <poll.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

// What a read with O_DIRECT brings is written by a device, past the page tables: of one that is under way while its
// pages are protected and copied, the rest goes unseen. In a stopped task none is, but for native AIO, which goes on
// even when the file has been closed.
bool device_may_write(pid_t pid) {
  return resources::reads_directly(pid) || std::ranges::any_of(proc::Reader(pid).maps(), is_aio_ring);
}

}  // namespace

SourceTask::SourceTask(const Relative& relative)
    : pid_(relative.host),
      pidfd_(static_cast<int>(check(::syscall(SYS_pidfd_open, relative.host, 0), "open process {}", relative.host))),
      guest_pid_(relative.pid),
      kinship_(relative.kin) {}

bool SourceTask::has_ended() const {
  pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) == 1;
}

bool SourceTask::same_program() const { return memory_->still_there() && program_of(pid_) == program_; }

UniqueFd SourceTask::make_userfaultfd(RemoteSyscalls& leader) const {
  try {
    fault::point("engine.inject.userfaultfd");
    return inject_userfaultfd(leader, pidfd_.get());
  } catch (const Error& e) {
    if (e.errc() != Errc::kernel_missing && e.errc() != Errc::busy) throw;
    log::warn("tracker.none",
              {{"pid", pid_}, {"reason", e.message()}, {"consequence", "every round sends everything"}});
    return {};
  }
}

void SourceTask::begin(UniqueFd userfaultfd, resources::FileIds& ids, Worker& second) {
  memory_ = std::make_unique<TaskMemory>(pid_, guest_pid_, std::move(userfaultfd), ids, &second);
  memory_->describe_policies(policies_);
  program_ = program_of(pid_);
  forked_only_ = engine::forked_only(pid_);
  like_its_parent_.reset();
  known_ = true;
}

bool SourceTask::may_share_with_parent() {
  if (!like_its_parent_) like_its_parent_ = forked_by_its_like(pid_);
  return *like_its_parent_;
}

// Flags of mappings that were seen longer ago may be others by now: no longer than catching up may take after a look.
void SourceTask::look(const MemoriesSeen& seen) {
  constexpr std::uint64_t just_now_ns = 1'000'000'000;
  const auto it = seen.of.find(pid_);
  if (it != seen.of.end() && it->second.program == program_ && monotonic_ns() - it->second.at_ns < just_now_ns)
    know(it->second);
  else
    memory_->look();
}

void SourceTask::know(const MemoriesSeen::Memory& seen) {
  memory_->know(seen.smaps);
  policies_.know_without(seen.smaps, seen.placed);
}

void SourceTask::ask_policies(Hold& hold, bool same_program) {
  if (!same_program) policies_.forget();  // another address space
  if (policies_.has_to_ask(hold.maps())) policies_.ask(hold.leader(), hold.scratch(), hold.maps());
}

bool SourceTask::others_read_directly() const {
  return std::ranges::any_of(others_, [](pid_t other) {
    try {
      return resources::reads_directly(other);
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
      return false;
    }
  });
}

// Who is new may have read during the last round, when nobody looked.
void SourceTask::used_by(std::vector<pid_t> others) {
  if (others == others_) return;
  others_ = std::move(others);
  if (!begun() || device_writes_ || !others_read_directly()) return;
  device_writes_ = true;
  memory_->start_over();
}

RoundCount SourceTask::running_round(PageSink& sink, const TaskMemory::Stop& stop) {
  device_writes_ = device_writes_ || device_may_write(pid_) || others_read_directly();
  const RoundCount count = device_writes_ ? memory_->round_with_stop(sink, stop) : memory_->round(sink, false);
  for (const std::uint64_t start : memory_->take_new_mappings()) policies_.forget(start);
  if (device_writes_) return count;
  if (device_may_write(pid_) || others_read_directly()) {  // since when, nobody knows
    device_writes_ = true;
    memory_->start_over();
  }
  return count;
}

}  // namespace godwit::engine
