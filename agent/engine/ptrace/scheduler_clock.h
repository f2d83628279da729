// The clock of the scheduler, which /proc/PID/sched speaks of: every CPU has its own.
#pragma once

namespace godwit::engine {

// What it is ahead of CLOCK_MONOTONIC on this CPU, in milliseconds. Measured there, which takes 0.1 ms, and remembered
// for a second. One thread.
double scheduler_clock_ahead_ms(unsigned cpu);

}  // namespace godwit::engine
