// Where the engine keeps what belongs to a running process: /run/godwit-engine/PID.STARTTIME[.WHAT], for root only. The
// start time tells a PID that is used again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include <sys/types.h>

namespace godwit::engine {

// The directory is made when it is missing.
std::filesystem::path run_directory();
// `what` empty: notes of its calls (call_notes.h).
std::filesystem::path run_file(pid_t pid, std::uint64_t start_time, std::string_view what = {});

// What is kept of a process that has been killed, with the socket of a holder that was killed, too; others clear away
// their own.
void forget_process(pid_t pid, std::uint64_t start_time) noexcept;

// Clears away what was kept of processes that have ended, and that nobody else has cleared: a restored process ends
// when it likes, a holder may be killed. Only what is older than an hour: a process of another PID namespace that
// shares this directory is not to be seen here.
void forget_ended() noexcept;

}  // namespace godwit::engine
