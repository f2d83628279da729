// Something that cannot be done at once is tried again, less and less often.
#pragma once

#include "common/net/async.h"

#include <algorithm>

namespace godwit::service {

// Until `done()` says so; the first time after `pause`. What `done` refers to must last until then.
template <class Done>
net::awaitable<void> keep_trying(Clock::duration pause, Done done) {
  constexpr Clock::duration longest_pause = std::chrono::seconds(10);
  do {
    co_await net::sleep_for(pause);
    pause = std::min(2 * pause, longest_pause);
  } while (!done());
}

}  // namespace godwit::service
