#include "agent/workload/process.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <csignal>
#include <cstdlib>

#include <poll.h>
#include <sys/wait.h>

namespace godwit::workload {

namespace asio = boost::asio;

net::awaitable<std::string> process_ended(UniqueFd pidfd) {
  asio::posix::stream_descriptor watched(co_await asio::this_coro::executor, pidfd.release());
  const auto [ec] =
      co_await watched.async_wait(asio::posix::stream_descriptor::wait_read, asio::as_tuple(asio::use_awaitable));
  if (ec) throw net::to_error(ec, "waiting for a process");
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(watched.native_handle()), &info, WEXITED | WNOHANG) == -1) co_return "ended";
  if (info.si_code == CLD_EXITED) co_return fmt::format("exited with {}", info.si_status);
  if (info.si_pid != 0) co_return fmt::format("killed by signal {}", info.si_status);
  co_return "ended";
}

bool wait_for_exit(int pidfd, std::chrono::milliseconds limit) {
  pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
  const int n = ::poll(&ended, 1, static_cast<int>(limit.count()));
  if (n == 1) reap(pidfd);
  return n == 1;
}

net::awaitable<void> reap_later(UniqueFd pidfd) { co_await process_ended(std::move(pidfd)); }

net::awaitable<void> end_process(UniqueFd pidfd, Clock::duration limit) {
  constexpr auto look_again = std::chrono::milliseconds(1);
  send_signal(pidfd.get(), SIGKILL);
  const auto deadline = Clock::now() + limit;
  while (!wait_for_exit(pidfd.get(), std::chrono::milliseconds(0))) {
    if (Clock::now() >= deadline) {
      net::spawn(co_await asio::this_coro::executor, "process.end", reap_later(std::move(pidfd)));
      co_return;
    }
    co_await net::sleep_for(look_again);
  }
}

std::vector<std::string> own_environment() {
  std::vector<std::string> environment{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  // The sanitizers' options matter in builds that are sanitized, and mean nothing in others.
  for (const char* name : {"GODWIT_CLOCK_FILE", "GODWIT_FAULT", "GODWIT_FAULT_FILE", "GODWIT_LOG", "ASAN_OPTIONS",
                           "UBSAN_OPTIONS", "TSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name)) environment.push_back(fmt::format("{}={}", name, value));
  }
  return environment;
}

}  // namespace godwit::workload
