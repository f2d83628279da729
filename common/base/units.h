// Types for units and worlds: what a number means is in its type.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

#include <sys/types.h>
#include <time.h>

namespace godwit {

inline constexpr std::size_t page_size = 4096;  // x86_64 only; `check` refuses other machines

// An address in a target process: cannot be dereferenced here.
enum class RemoteAddr : std::uint64_t {};
constexpr std::uint64_t raw(RemoteAddr a) { return static_cast<std::uint64_t>(a); }
constexpr RemoteAddr operator+(RemoteAddr a, std::uint64_t n) { return RemoteAddr{raw(a) + n}; }

// A PID as the target sees it, in the innermost PID namespace of the dumped tree. Host PIDs are plain pid_t.
enum class GuestPid : pid_t {};
constexpr pid_t raw(GuestPid p) { return static_cast<pid_t>(p); }

constexpr std::uint64_t page_down(std::uint64_t n) { return n & ~std::uint64_t{page_size - 1}; }
constexpr std::uint64_t page_up(std::uint64_t n) { return page_down(n + page_size - 1); }

using Clock = std::chrono::steady_clock;

inline std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

std::string human_bytes(std::uint64_t bytes);        // "1.5 GiB"
std::uint64_t parse_bytes(const std::string& text);  // "128M", "1GiB", "4096"; Errc::invalid_argument

}  // namespace godwit
