// Checks: POSIX timers on several clocks: their IDs (with gaps), clocks, how they notify, interval, remaining time, the
// pending signal with its value, and overruns.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <map>
#include <pthread.h>
#include <sstream>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

// The kernel's own calls: the C library hides the IDs.
int create(clockid_t clock, int notify, int signal, int value, pid_t thread = 0) {
  sigevent event{};
  event.sigev_notify = notify;
  event.sigev_signo = signal;
  event.sigev_value.sival_int = value;
  event._sigev_un._tid = thread;
  int id = -1;
  must(syscall(SYS_timer_create, clock, &event, &id), "timer_create");
  return id;
}

void start(int id, double first, double interval, int flags = 0, clockid_t clock = CLOCK_MONOTONIC) {
  const auto to_timespec = [](double s) {
    return timespec{static_cast<time_t>(s), static_cast<long>((s - static_cast<double>(static_cast<time_t>(s))) * 1e9)};
  };
  itimerspec value{to_timespec(interval), to_timespec(first)};
  if (flags == TIMER_ABSTIME) {
    timespec now;
    clock_gettime(clock, &now);
    value.it_value.tv_sec += now.tv_sec;
    value.it_value.tv_nsec = now.tv_nsec;
  }
  must(syscall(SYS_timer_settime, id, flags, &value, nullptr), "timer_settime");
}

struct Left {
  double value;
  double interval;
};

Left left(Workload& w, int id) {
  itimerspec now{};
  w.check(syscall(SYS_timer_gettime, id, &now) == 0, "timer %d: %m", id);
  const auto seconds = [](const timespec& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  };
  return {seconds(now.it_value), seconds(now.it_interval)};
}

// What the kernel says of each timer: its signal and value, whom it notifies, its clock.
std::map<std::string, std::string> descriptions() {
  std::map<std::string, std::string> timers;
  std::istringstream text(read_file("/proc/self/timers"));
  std::string id;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("ID: ")) {
      id = line.substr(4);
    } else {
      timers[id] += line + ", ";
    }
  }
  return timers;
}

// A signal from a timer that is pending for the calling thread; none: si_signo is 0.
siginfo_t take(int signal, double within) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  siginfo_t info{};
  const timespec limit{static_cast<time_t>(within), 0};
  if (sigtimedwait(&set, &info, &limit) != signal) info.si_signo = 0;
  return info;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  std::atomic<pid_t> tid = 0;
  std::atomic<bool> verify = false;
  siginfo_t directed{};
  std::thread thread([&] {
    tid = gettid();
    while (!verify) pause_for(0.005);
    directed = take(SIGRTMIN + 3, 2);
  });
  while (tid == 0) pause_for(0.001);

  const double began = Workload::now();
  const int ticking = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 11);
  const int deleted = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 12);
  const int distant = create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 2, 13);
  const int deleted_too = create(CLOCK_REALTIME, SIGEV_NONE, 0, 14);
  const int to_thread = create(CLOCK_BOOTTIME, SIGEV_THREAD_ID, SIGRTMIN + 3, 15, tid);
  const int silent = create(CLOCK_MONOTONIC, SIGEV_NONE, 0, 16);
  const int idle = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 4, 17);
  const int on_cpu = create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 5, 18);
  const int absolute = create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 6, 19);
  for (const int id : {deleted, deleted_too}) must(syscall(SYS_timer_delete, id), "timer_delete");
  start(ticking, 0.02, 0.02);
  start(distant, 5000, 7.5);
  start(to_thread, 0.05, 0);
  start(silent, 1000, 0.25);
  start(on_cpu, 3000, 1);
  start(absolute, 6000, 0, TIMER_ABSTIME, CLOCK_REALTIME);
  pause_for(0.15);  // the ticking timer has overrun, the thread's has fired
  const std::map<std::string, std::string> before = descriptions();

  w.ready();
  w.wait_for_verify();

  for (const int id : {deleted, deleted_too}) {
    itimerspec unused;
    w.check(syscall(SYS_timer_gettime, id, &unused) == -1 && errno == EINVAL, "the deleted timer %d is back", id);
  }
  const std::map<std::string, std::string> now = descriptions();
  for (const auto& [id, description] : before) {
    const auto found = now.find(id);
    w.check(found != now.end() && found->second == description, "timer %s was %sand is %s", id.c_str(),
            description.c_str(), found == now.end() ? "gone" : found->second.c_str());
  }
  const siginfo_t tick = take(SIGRTMIN + 1, 1);
  const double elapsed = Workload::now() - began;
  w.check(tick.si_signo != 0, "the ticking timer's signal is lost");
  w.check(tick.si_code == SI_TIMER && tick.si_value.sival_int == 11 && tick.si_timerid == ticking,
          "the ticking timer's signal: code %d, value %d, timer %d", tick.si_code, tick.si_value.sival_int,
          tick.si_timerid);
  // One signal stands for all ticks of a blocked timer. How many there were so far cannot be read from outside, so
  // after a move they may be missing; never may there be more.
  const double least = w.moved() ? 0 : (elapsed - w.lost()) / 0.02 - 3;
  w.check(tick.si_overrun <= elapsed / 0.02 && tick.si_overrun >= least, "the ticking timer overran %d times in %.3f s",
          tick.si_overrun, elapsed);
  const int overrun = static_cast<int>(syscall(SYS_timer_getoverrun, ticking));
  w.check(w.moved() || overrun == tick.si_overrun, "timer_getoverrun says %d, the signal %d", overrun, tick.si_overrun);
  const siginfo_t next_tick = take(SIGRTMIN + 1, 1);
  w.check(next_tick.si_signo != 0, "the ticking timer does not tick any more");
  w.check(next_tick.si_signo == 0 || (next_tick.si_value.sival_int == 11 && next_tick.si_timerid == ticking),
          "the ticking timer's next signal: value %d, timer %d", next_tick.si_value.sival_int, next_tick.si_timerid);
  const Left ticks = left(w, ticking);
  w.check(ticks.interval == 0.02 && ticks.value <= 0.02, "the ticking timer: %.6f s of %.6f s left", ticks.value,
          ticks.interval);

  const struct {
    int id;
    double first, interval;
    const char* name;
  } expected[] = {{distant, 5000, 7.5, "the real-time timer"},
                  {silent, 1000, 0.25, "the SIGEV_NONE timer"},
                  {absolute, 6000, 0, "the absolute timer"}};
  for (const auto& e : expected) {
    const Left now = left(w, e.id);
    const double due = e.first - (Workload::now() - began);
    w.check(now.interval == e.interval && now.value > due - late && now.value < due + w.lost() + late,
            "%s: %.3f s left (interval %.3f s), %.3f s expected", e.name, now.value, now.interval, due);
  }
  const Left cpu = left(w, on_cpu);
  w.check(cpu.interval == 1 && cpu.value > 2900 && cpu.value <= 3000.01, "the CPU timer: %.3f s left", cpu.value);
  const Left never_started = left(w, idle);
  w.check(never_started.value == 0 && never_started.interval == 0, "the idle timer runs");
  start(idle, 0.01, 0);
  const siginfo_t started = take(SIGRTMIN + 4, 2);
  w.check(started.si_value.sival_int == 17 && started.si_timerid == idle, "the idle timer notifies with %d",
          started.si_value.sival_int);

  verify = true;
  thread.join();
  w.check(directed.si_signo != 0 && directed.si_value.sival_int == 15,
          "the thread's timer signal is lost or has value %d", directed.si_value.sival_int);
  w.check(left(w, to_thread).value == 0, "the thread's timer runs again");
  return w.finish();
}
