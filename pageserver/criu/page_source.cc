#include "pageserver/criu/page_source.h"

#include "common/base/check.h"

#include <algorithm>
#include <array>
#include <utility>

#include <poll.h>

namespace godwit::pageserver::criu {
namespace {

// The engine announces pages when it has them.
constexpr std::chrono::seconds patience{30};

}  // namespace

std::span<const std::byte> RingPages::take_some(std::size_t most) {
  while (left_.empty())
    if (!next()) return {};
  const std::span<const std::byte> some = left_.first(std::min(most, left_.size()));
  left_ = left_.subspan(some.size());
  return some;
}

bool RingPages::next() {
  if (std::exchange(taken_, false)) ring_.release();
  const auto record = ring_.front();
  if (!record) return false;
  left_ = *record;
  return taken_ = true;
}

void RingPages::wait() {
  for (const auto deadline = Clock::now() + patience; !ring_.front();) wait(deadline);
}

void RingPages::wait(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  if (left.count() <= 0) fail(Errc::timed_out, "the pages that the engine has announced do not come");
  std::array<pollfd, 2> both{
      {{.fd = ring_.data_fd(), .events = POLLIN, .revents = 0}, {.fd = engine_, .events = 0, .revents = 0}}};
  if (::poll(both.data(), both.size(), static_cast<int>(left.count())) < 0 && errno != EINTR)
    check(-1, "wait for pages");
  if (both[0].revents != 0) {
    std::uint64_t signals = 0;
    std::ignore = ::read(ring_.data_fd(), &signals, sizeof signals);
  } else if (both[1].revents != 0) {
    fail(Errc::peer_lost, "the engine went away within a run");
  }
}

}  // namespace godwit::pageserver::criu
