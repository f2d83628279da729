#include "agent/engine/tasks/timers.h"

#include "common/base/check.h"

#include <csignal>
#include <cstring>

#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

namespace godwit::engine::tasks::timers {
namespace {

constexpr int prctl_timer_create_restore_ids = 77;  // 6.15+

void ask_itimer(Inquiry& ask, int which, image::ItimerEntry& into) {
  into.set_isec(0);
  into.set_iusec(0);
  into.set_vsec(0);
  into.set_vusec(0);
  const RemoteAddr at = ask.batch().reserve(sizeof(itimerval));
  ask.batch().add("read an interval timer", SYS_getitimer, which, at);
  ask.then([&into, at](const Batch& b) {
    const auto t = b.read<itimerval>(at);
    into.set_isec(static_cast<std::uint64_t>(t.it_interval.tv_sec));
    into.set_iusec(static_cast<std::uint64_t>(t.it_interval.tv_usec));
    into.set_vsec(static_cast<std::uint64_t>(t.it_value.tv_sec));
    into.set_vusec(static_cast<std::uint64_t>(t.it_value.tv_usec));
  });
}

void set_itimer(Batch& batch, int which, const image::ItimerEntry& from) {
  itimerval t{};
  t.it_interval = {static_cast<time_t>(from.isec()), static_cast<suseconds_t>(from.iusec())};
  t.it_value = {static_cast<time_t>(from.vsec()), static_cast<suseconds_t>(from.vusec())};
  // ITIMER_REAL with its signal queued: the kernel winds it up again when the signal is taken.
  if (!from.vsec() && !from.vusec()) t.it_value = t.it_interval;
  if (!t.it_value.tv_sec && !t.it_value.tv_usec) return;
  batch.add("set an interval timer", SYS_setitimer, which, batch.put(t), 0);
}

}  // namespace

void dump(Inquiry& ask, const std::vector<proc::PosixTimer>& posix, image::TaskTimersEntry& into) {
  ask_itimer(ask, ITIMER_REAL, *into.mutable_real());
  ask_itimer(ask, ITIMER_VIRTUAL, *into.mutable_virt());
  ask_itimer(ask, ITIMER_PROF, *into.mutable_prof());
  while (into.posix_size() < static_cast<int>(posix.size())) into.add_posix();
  for (std::size_t i = 0; i < posix.size(); i++) {
    const proc::PosixTimer& timer = posix[i];
    image::PosixTimerEntry& e = *into.mutable_posix(static_cast<int>(i));
    e.set_it_id(static_cast<std::uint32_t>(timer.id));
    e.set_clock_id(static_cast<std::uint32_t>(timer.clock));
    e.set_si_signo(static_cast<std::uint32_t>(timer.signal));
    e.set_it_sigev_notify(static_cast<std::uint32_t>(timer.sigev_notify()));
    e.set_sival_ptr(timer.sigval);
    if (timer.to_thread) e.set_notify_thread_id(timer.target);
    const RemoteAddr at = ask.batch().reserve(sizeof(itimerspec));
    ask.batch().add("read a timer", SYS_timer_gettime, timer.id, at);
    const std::size_t overrun = ask.batch().add("read a timer's overrun", SYS_timer_getoverrun, timer.id);
    ask.then([&e, at, overrun](const Batch& b) {
      const auto t = b.read<itimerspec>(at);
      e.set_isec(static_cast<std::uint64_t>(t.it_interval.tv_sec));
      e.set_insec(static_cast<std::uint64_t>(t.it_interval.tv_nsec));
      e.set_vsec(static_cast<std::uint64_t>(t.it_value.tv_sec));
      e.set_vnsec(static_cast<std::uint64_t>(t.it_value.tv_nsec));
      e.set_overrun(static_cast<std::uint32_t>(b.result(overrun)));
    });
  }
}

void name_threads(image::TaskTimersEntry& timers, const std::map<pid_t, pid_t>& guest_tids) {
  for (image::PosixTimerEntry& e : *timers.mutable_posix()) {
    if (!e.has_notify_thread_id()) continue;
    const auto it = guest_tids.find(e.notify_thread_id());
    if (it != guest_tids.end())
      e.set_notify_thread_id(it->second);
    else
      e.clear_notify_thread_id();
  }
}

void disarm_expired(image::TaskTimersEntry& timers, const image::SignalQueueEntry& queued) {
  for (const image::SiginfoEntry& s : queued.signals()) {
    siginfo_t info{};
    std::memcpy(&info, s.siginfo().data(), std::min(sizeof info, s.siginfo().size()));
    image::ItimerEntry& real = *timers.mutable_real();
    if (info.si_signo == SIGALRM && info.si_code == SI_KERNEL && !real.isec() && !real.iusec()) {
      real.set_vsec(0);
      real.set_vusec(0);
    }
    if (info.si_code != SI_TIMER) continue;
    for (image::PosixTimerEntry& t : *timers.mutable_posix())
      if (t.it_id() == static_cast<std::uint32_t>(info.si_timerid) && !t.isec() && !t.insec()) {
        t.set_vsec(0);
        t.set_vnsec(0);
      }
  }
}

void restore(Batch& batch, const image::TaskTimersEntry& from) {
  set_itimer(batch, ITIMER_REAL, from.real());
  set_itimer(batch, ITIMER_VIRTUAL, from.virt());
  set_itimer(batch, ITIMER_PROF, from.prof());
  if (from.posix().empty()) return;
  batch.add("let timers keep their ids", SYS_prctl, prctl_timer_create_restore_ids, 1, 0, 0, 0);
  for (const image::PosixTimerEntry& e : from.posix()) {
    sigevent event{};
    event.sigev_signo = static_cast<int>(e.si_signo());
    event.sigev_notify = static_cast<int>(e.it_sigev_notify());
    event.sigev_value.sival_ptr = reinterpret_cast<void*>(e.sival_ptr());
    event._sigev_un._tid = e.has_notify_thread_id() ? e.notify_thread_id() : 0;
    const RemoteAddr at = batch.put(event);
    batch.add("make a timer", SYS_timer_create, static_cast<std::int32_t>(e.clock_id()), at, batch.put(e.it_id()));
    itimerspec t{};
    t.it_interval = {static_cast<time_t>(e.isec()), static_cast<long>(e.insec())};
    t.it_value = {static_cast<time_t>(e.vsec()), static_cast<long>(e.vnsec())};
    if (e.vsec() || e.vnsec()) batch.add("set a timer", SYS_timer_settime, e.it_id(), 0, batch.put(t), 0);
  }
  batch.add("let timers get new ids again", SYS_prctl, prctl_timer_create_restore_ids, 0, 0, 0, 0);
}

}  // namespace godwit::engine::tasks::timers
