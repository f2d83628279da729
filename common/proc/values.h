// The small files: sched, cgroup, children, personality, oom_score_adj, loginuid, coredump_filter, autogroup, and two
// of a cgroup. Errors: Errc::internal.
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
  std::uint64_t switches = 0;       // how often it has been taken off a CPU
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
std::uint32_t parse_loginuid(std::string_view text);         // 4294967295: unset
std::uint32_t parse_coredump_filter(std::string_view text);  // hexadecimal
// "/autogroup-25 nice 0"; of a session without a group the file is empty: 0.
std::int32_t parse_autogroup_nice(std::string_view text);
// How often a thread has been taken off a CPU, of its own will or not: from /proc/PID/task/TID/status.
std::uint64_t parse_context_switches(std::string_view text);

std::vector<pid_t> parse_cgroup_procs(std::string_view text);  // cgroup.procs; 0: one that this PID namespace has not
std::uint64_t parse_cpu_usage_us(std::string_view text);       // cpu.stat

}  // namespace godwit::proc
