#include "agent/engine/resources/timerfd.h"

#include "agent/engine/resources/fown.h"

#include <time.h>

#include <linux/ioctl.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>

namespace godwit::engine::resources::timerfd {
namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr unsigned long set_ticks = _IOW('T', 0, std::uint64_t);  // TFD_IOC_SET_TICKS, with CONFIG_CHECKPOINT_RESTORE

bool wall_clock(int clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM; }

bool armed(const itimerspec& spec) { return spec.it_value.tv_sec != 0 || spec.it_value.tv_nsec != 0; }

// Expirations that nobody read yet.
void restore_ticks(int fd, std::uint64_t ticks, const itimerspec& spec, int flags) {
  if (::ioctl(fd, set_ticks, &ticks) == 0) return;
  if (errno != ENOTTY) throw syscall_error(errno, fmt::format("set {} expirations", ticks));
  // Without the ioctl the count becomes 1: it expires at once, and then as it would have.
  if (armed(spec)) return;
  itimerspec now = spec;
  now.it_value = {0, 1};
  check(::timerfd_settime(fd, flags & ~TFD_TIMER_ABSTIME, &now, nullptr), "let a timer expire at once");
}

}  // namespace

bool matches(const FdView& view) { return view.link == "anon_inode:[timerfd]"; }

std::optional<Refusal> refusal(const FdView&, SurveyContext&) { return std::nullopt; }

void dump(const FdView& view, image::FileEntry& entry, DumpContext&) {
  proc::TimerfdInfo info = view.info.timerfd.value();
  if (info.value_s == 0 && info.value_ns == 0 && (info.interval_s != 0 || info.interval_ns != 0)) {
    // A periodic timer that has expired stands still until someone looks; looking moves it on and counts the
    // expirations that read() would have counted.
    itimerspec now{};
    check(::timerfd_gettime(view.fd, &now), "read the timer of {}", view.describe());
    info = read_own_fdinfo(view.fd).timerfd.value();
  }
  image::TimerfdEntry& file = *entry.mutable_tfd();
  file.set_id(entry.id());
  file.set_flags(view.flags());
  *file.mutable_fown() = dump_fown(view.fd);
  file.set_clockid(static_cast<std::uint32_t>(info.clock));
  file.set_ticks(info.ticks);
  file.set_settime_flags(info.settime_flags);
  file.set_vsec(static_cast<std::uint64_t>(info.value_s));
  file.set_vnsec(static_cast<std::uint64_t>(info.value_ns));
  file.set_isec(static_cast<std::uint64_t>(info.interval_s));
  file.set_insec(static_cast<std::uint64_t>(info.interval_ns));
  const bool is_armed = info.value_s != 0 || info.value_ns != 0;
  if (is_armed && (info.settime_flags & TFD_TIMER_ABSTIME) != 0 && wall_clock(info.clock)) {
    timespec now{};
    check(::clock_gettime(CLOCK_REALTIME, &now), "read the clock");
    const std::int64_t nanoseconds = now.tv_nsec + info.value_ns;
    file.set_deadline_sec(now.tv_sec + info.value_s + nanoseconds / second_ns);
    file.set_deadline_nsec(static_cast<std::uint64_t>(nanoseconds % second_ns));
  }
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  const image::TimerfdEntry& file = entry.tfd();
  UniqueFd fd(check(::timerfd_create(static_cast<int>(file.clockid()), TFD_CLOEXEC | TFD_NONBLOCK),
                    "create a timer on clock {}", file.clockid()));
  itimerspec spec{};
  spec.it_interval = {static_cast<time_t>(file.isec()), static_cast<long>(file.insec())};
  spec.it_value = {static_cast<time_t>(file.vsec()), static_cast<long>(file.vnsec())};
  // CRIU writes a periodic timer that has expired as the kernel shows it, with nothing left: it goes on.
  if (!armed(spec) && file.ticks() != 0) spec.it_value = spec.it_interval;
  int flags = static_cast<int>(file.settime_flags());
  if (file.has_deadline_sec()) {
    // What went by since the dump counts: a deadline in the past fires now.
    spec.it_value = {static_cast<time_t>(file.deadline_sec()), static_cast<long>(file.deadline_nsec())};
  } else {
    // Other clocks of this host began elsewhere. The time left goes on from where it was.
    flags &= ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
  }
  if (armed(spec)) check(::timerfd_settime(fd.get(), flags, &spec, nullptr), "arm a timer");
  if (file.ticks() != 0) restore_ticks(fd.get(), file.ticks(), spec, flags);
  return fd;
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::timerfd
