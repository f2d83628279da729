// The time of day: for names, reports and lines that people read. It may jump, by an operator's hand or by NTP, so
// nobody waits, gives up or decides by it: that is for Clock (units.h), which only goes on.
//
// A test moves it under programs that run: the file that GODWIT_CLOCK_FILE names says how many seconds it is off,
// "-3600".
#pragma once

#include <chrono>
#include <cstdint>

namespace godwit {

std::chrono::system_clock::time_point wall_now();
std::int64_t unix_ms();

}  // namespace godwit
