// The small files: sched, cgroup, children, personality, oom_score_adj, loginuid. Errors: Errc::internal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::proc {

// /proc/PID/task/TID/sched
struct Sched {
  std::uint64_t exec_start_ns = 0;  // when the thread last began to run, on the scheduler's clock
  std::uint32_t policy = 0;
  std::int32_t prio = 0;
};
Sched parse_sched(std::string_view text);

// /proc/PID/cgroup, one line per hierarchy; `id` 0 with no controllers is cgroup v2.
struct CgroupLine {
  std::int32_t id = 0;
  std::string controllers;  // "cpu,cpuacct"; "name=systemd"
  std::string path;         // below the root of the reader's cgroup namespace
};
std::vector<CgroupLine> parse_cgroup(std::string_view text);

std::vector<pid_t> parse_pids(std::string_view text);    // /proc/PID/task/TID/children
std::uint32_t parse_personality(std::string_view text);  // hexadecimal
std::int32_t parse_oom_score_adj(std::string_view text);
std::uint32_t parse_loginuid(std::string_view text);  // 4294967295: unset

}  // namespace godwit::proc
