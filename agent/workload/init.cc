#include "agent/workload/init.h"

#include "agent/workload/process.h"
#include "common/net/within.h"
#include "common/proc/reader.h"

#include <boost/asio/posix/stream_descriptor.hpp>

#include <array>
#include <charconv>
#include <csignal>

#include <sched.h>

namespace godwit::workload {
namespace {

namespace asio = boost::asio;

constexpr auto end_limit = std::chrono::seconds(5);
constexpr std::size_t longest_report = 4096;
constexpr std::uint64_t namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC;

struct Reported {
  Init init;
  GuestPid guest{};
};

// The init says the PID of the root task; whoever fails says why. The pipe closes when the workload's program has
// been executed.
net::awaitable<std::string> read_report(UniqueFd fd) {
  asio::posix::stream_descriptor from(co_await asio::this_coro::executor, fd.release());
  std::string text;
  for (;;) {
    std::array<char, 512> buffer;
    const auto [ec, n] = co_await from.async_read_some(asio::buffer(buffer), asio::as_tuple(asio::use_awaitable));
    text.append(buffer.data(), n);
    if (ec == asio::error::eof) co_return text;
    if (ec) throw net::to_error(ec, "reading the init's report");
    if (text.size() > longest_report) fail(Errc::internal, "the init's report has no end");
  }
}

net::awaitable<Reported> start(InitPlace place, SpawnPlan plan, std::vector<std::string> arguments) {
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
  Reported reported;
  std::exception_ptr problem;
  try {
    auto reading = read_report(std::move(report_read));
    const std::string said = co_await net::within(place.limit, "the init of the workload", std::move(reading));
    reported.guest = parse_report(said);
    reported.init = {.pid = child.pid, .start_time = start_time_of(child.pid), .pidfd = {}};
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {
    co_await end_process(std::move(child.pidfd), end_limit);
    std::rethrow_exception(problem);
  }
  reported.init.pidfd = std::move(child.pidfd);
  co_return reported;
}

// It may have made PID namespaces already, in which somebody has the same number.
pid_t host_pid(const Cgroup& copy, GuestPid guest) {
  pid_t found = 0;
  std::size_t fewest = ~std::size_t{0};
  for (const pid_t pid : copy.pids()) {
    try {
      const auto ids = proc::Reader(pid).status().ns_pid;
      if (ids.empty() || ids.back() != raw(guest) || ids.size() >= fewest) continue;
      found = pid;
      fewest = ids.size();
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
    }
  }
  return found;
}

// Of a fifo nobody may read yet: opening it would wait for that.
UniqueFd open_output(const std::string& path) {
  UniqueFd output = open_file(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK, 0644);
  const int flags = check(::fcntl(output.get(), F_GETFL), "read the flags of {}", path);
  check(::fcntl(output.get(), F_SETFL, flags & ~O_NONBLOCK), "set the flags of {}", path);
  return output;
}

}  // namespace

net::awaitable<Started> start_workload(InitPlace place, const Cgroup& copy, RunPlan plan) {
  if (plan.argv.empty()) fail(Errc::invalid_argument, "there is no program to run");
  UniqueFd output = open_output(plan.output);
  SpawnPlan spawn_plan{
      .arguments = {"run"}, .environment = plan.environment, .fds = {copy.dir()}, .output = output.get()};
  std::vector<std::string> arguments{"5", std::to_string(plan.uid), std::to_string(plan.gid), plan.directory};
  arguments.insert(arguments.end(), plan.argv.begin(), plan.argv.end());
  Reported reported = co_await start(std::move(place), std::move(spawn_plan), std::move(arguments));
  const pid_t root = host_pid(copy, reported.guest);
  co_return Started{.init = std::move(reported.init), .root = root, .guest = reported.guest};
}

net::awaitable<Init> start_waiting_init(InitPlace place, GuestPid root) {
  SpawnPlan plan{.arguments = {"wait"}};
  std::vector<std::string> arguments{std::to_string(raw(root))};
  Reported reported = co_await start(std::move(place), std::move(plan), std::move(arguments));
  co_return std::move(reported.init);
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
