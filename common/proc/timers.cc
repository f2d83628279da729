#include "common/proc/timers.h"

#include "common/proc/text.h"

#include <csignal>

namespace godwit::proc {
namespace {

void set_signal(PosixTimer& timer, std::string_view value) {
  Scanner scan("timers", value);
  timer.signal = scan.dec<std::int32_t>();
  scan.expect("/");
  scan.accept("0x");
  timer.sigval = scan.hex<std::uint64_t>();
}

void set_notify(PosixTimer& timer, std::string_view value) {
  Scanner scan("timers", value);
  const std::string_view how = scan.until('/');
  if (how == "signal")
    timer.notify = TimerNotify::signal;
  else if (how == "none")
    timer.notify = TimerNotify::none;
  else if (how == "thread")
    timer.notify = TimerNotify::thread;
  else
    scan.bad();
  timer.to_thread = scan.accept("tid.");
  if (!timer.to_thread) scan.expect("pid.");
  timer.target = scan.dec<pid_t>();
}

}  // namespace

int PosixTimer::sigev_notify() const {
  const int thread_bit = to_thread ? SIGEV_THREAD_ID : 0;
  switch (notify) {
    case TimerNotify::signal: return SIGEV_SIGNAL | thread_bit;
    case TimerNotify::none: return SIGEV_NONE | thread_bit;
    case TimerNotify::thread: return SIGEV_THREAD | thread_bit;
  }
  return SIGEV_SIGNAL;
}

std::vector<PosixTimer> parse_timers(std::string_view text) {
  std::vector<PosixTimer> timers;
  while (const auto line = next_line(text)) {
    const std::optional<KeyValue> kv = key_value(*line);
    if (!kv) continue;
    if (kv->key == "ID") {
      timers.push_back({.id = Scanner("timers", kv->value).dec<std::int32_t>()});
      continue;
    }
    const bool known = kv->key == "signal" || kv->key == "notify" || kv->key == "ClockID";
    if (known && timers.empty()) malformed("timers", *line);
    if (kv->key == "signal") set_signal(timers.back(), kv->value);
    if (kv->key == "notify") set_notify(timers.back(), kv->value);
    if (kv->key == "ClockID") timers.back().clock = Scanner("timers", kv->value).dec<std::int32_t>();
  }
  return timers;
}

}  // namespace godwit::proc
