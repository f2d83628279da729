#include "agent/workload/init.h"

#include "common/proc/reader.h"

#include <charconv>
#include <csignal>

#include <poll.h>
#include <sched.h>
#include <sys/wait.h>

namespace godwit::workload {
namespace {

constexpr int report_limit_ms = 10'000;
constexpr std::uint64_t namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC;

struct Reported {
  Init init;
  GuestPid guest{};
};

// The init says the PID of the root task; whoever fails says why. The pipe closes when the workload's program has
// been executed.
GuestPid read_report(int fd) {
  std::string text;
  for (;;) {
    pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
    if (check(::poll(&readable, 1, report_limit_ms), "poll") == 0) fail(Errc::timed_out, "the init says nothing");
    char buffer[512];
    const auto n = check(::read(fd, buffer, sizeof buffer), "read the init's report");
    if (n == 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return parse_report(text);
}

Reported start(const InitPlace& place, SpawnPlan plan, std::vector<std::string> arguments) {
  UniqueFd exit_file = open_file(place.exit_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  auto [report_read, report_write] = make_pipe();
  plan.program = place.program;
  plan.fds.insert(plan.fds.begin(), {exit_file.get(), report_write.get()});
  plan.cgroup = place.cgroup;
  plan.namespaces = namespaces;
  plan.arguments = {plan.arguments.at(0), "3", "4"};
  plan.arguments.insert(plan.arguments.end(), arguments.begin(), arguments.end());
  Child child = spawn(plan);
  report_write.reset();
  try {
    Reported reported{.init = {.pid = child.pid, .start_time = start_time_of(child.pid), .pidfd = {}}, .guest = {}};
    reported.guest = read_report(report_read.get());
    reported.init.pidfd = std::move(child.pidfd);
    return reported;
  } catch (...) {
    send_signal(child.pidfd.get(), SIGKILL);
    siginfo_t info{};
    ::waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED);
    throw;
  }
}

pid_t host_pid(const Cgroup& copy, GuestPid guest) {
  for (const pid_t pid : copy.pids()) {
    try {
      const auto status = proc::Reader(pid).status();
      if (!status.ns_pid.empty() && status.ns_pid.back() == raw(guest)) return pid;
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
    }
  }
  return 0;
}

}  // namespace

Started start_workload(const InitPlace& place, const Cgroup& copy, const RunPlan& plan) {
  if (plan.argv.empty()) fail(Errc::invalid_argument, "there is no program to run");
  UniqueFd output = open_file(plan.output, O_WRONLY | O_CREAT | O_APPEND, 0644);
  SpawnPlan spawn_plan{
      .arguments = {"run"}, .environment = plan.environment, .fds = {copy.dir()}, .output = output.get()};
  std::vector<std::string> arguments{"5", std::to_string(plan.uid), std::to_string(plan.gid), plan.directory};
  arguments.insert(arguments.end(), plan.argv.begin(), plan.argv.end());
  Reported reported = start(place, std::move(spawn_plan), std::move(arguments));
  const pid_t root = host_pid(copy, reported.guest);
  return {.init = std::move(reported.init), .root = root, .guest = reported.guest};
}

Init start_waiting_init(const InitPlace& place, GuestPid root) {
  SpawnPlan plan{.arguments = {"wait"}};
  return start(place, std::move(plan), {std::to_string(raw(root))}).init;
}

void complete(const Init& init) { send_signal(init.pidfd.get(), SIGUSR1); }

GuestPid parse_report(const std::string& text) {
  if (const auto at = text.find("error: "); at != std::string::npos) {
    fail(Errc::invalid_argument, "{}", text.substr(at + 7, text.find('\n', at) - at - 7));
  }
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  if (pid <= 0) fail(Errc::internal, "the init ended without a report");
  return GuestPid{pid};
}

int parse_exit_code(const std::string& text) {
  const auto space = text.find(' ');
  if (space == std::string::npos) return -1;
  unsigned char number = 0;
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data() + space + 1, end, number).ec != std::errc()) return -1;
  return text.starts_with("signal") ? 128 + number : number;
}

int read_exit_code(const std::string& exit_path) {
  try {
    return parse_exit_code(read_file(exit_path, 64));
  } catch (const Error&) {
    return -1;
  }
}

}  // namespace godwit::workload
