// Checks: setitimer's REAL, VIRTUAL and PROF timers keep their interval and go on ticking, neither faster nor slower.

#include "tests/workloads/workload.h"

#include <csignal>
#include <pthread.h>
#include <sys/time.h>
#include <thread>

using namespace godwit::workloads;

namespace {

struct Timer {
  int which;
  int signal;
  const char* name;
  suseconds_t interval_us;
};

constexpr Timer timers[] = {{ITIMER_REAL, SIGALRM, "ITIMER_REAL", 40'000},
                            {ITIMER_VIRTUAL, SIGVTALRM, "ITIMER_VIRTUAL", 50'000},
                            {ITIMER_PROF, SIGPROF, "ITIMER_PROF", 60'000}};
std::atomic<int> ticks[65];

void mask(int how) {
  sigset_t set;
  sigemptyset(&set);
  for (const Timer& timer : timers) sigaddset(&set, timer.signal);
  pthread_sigmask(how, &set, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_handler = [](int signal) { ++ticks[signal]; };
  action.sa_flags = SA_RESTART;
  for (const Timer& timer : timers) must(sigaction(timer.signal, &action, nullptr), "sigaction");
  // The signals go to the spinner, which also uses the CPU time that two of the timers count.
  mask(SIG_BLOCK);
  std::atomic<bool> stop = false;
  std::thread spinner([&] {
    mask(SIG_UNBLOCK);
    while (!stop) {
    }
  });
  const double started = Workload::now();
  for (const Timer& timer : timers) {
    const itimerval value{{0, timer.interval_us}, {0, timer.interval_us}};
    must(setitimer(timer.which, &value, nullptr), "setitimer");
  }

  w.ready();
  w.wait_for_verify();
  for (const Timer& timer : timers) {
    itimerval now{};
    getitimer(timer.which, &now);
    // The kernel rounds the CPU timers' values up to its tick.
    w.check(now.it_interval.tv_sec == 0 && now.it_interval.tv_usec - timer.interval_us < 10'000 &&
                now.it_interval.tv_usec >= timer.interval_us,
            "the interval of %s is %ld.%06ld s", timer.name, now.it_interval.tv_sec, now.it_interval.tv_usec);
    w.check(now.it_value.tv_sec == 0 && now.it_value.tv_usec < timer.interval_us + 20'000, "%s has %ld.%06ld s left",
            timer.name, now.it_value.tv_sec, now.it_value.tv_usec);
    const int before = ticks[timer.signal];
    w.check(w.wait_until([&] { return ticks[timer.signal] >= before + 5; }, 10), "%s does not tick any more",
            timer.name);
  }
  const double elapsed = Workload::now() - started;
  const int real = ticks[SIGALRM];
  const double interval = static_cast<double>(timers[0].interval_us) * 1e-6;
  // Ticks while frozen are one signal; so are ticks while starved.
  w.check(real <= elapsed / interval + 2, "ITIMER_REAL ticked %d times in %.3f s", real, elapsed);
  w.check(real >= (elapsed - w.lost()) / interval * 0.5 - 3, "ITIMER_REAL ticked only %d times in %.3f s", real,
          elapsed);
  for (const Timer& timer : timers) {
    const itimerval off{};
    setitimer(timer.which, &off, nullptr);
  }
  stop = true;
  spinner.join();
  return w.finish();
}
