#include "agent/service/homecoming.h"

#include "agent/workload/homes.h"
#include "common/base/log.h"

#include <algorithm>

namespace godwit::service {
namespace {

constexpr Clock::duration longest_pause = std::chrono::seconds(10);

constexpr int first_tries = 50;  // at the cgroup; later on nobody on this thread waits for it

bool is_brought(const std::string& copy, const std::string& note, int tries) {
  try {
    workload::bring_home(copy, note, tries);
    return true;
  } catch (const std::exception& e) {
    log::error("source.leave_cgroup", {{"cgroup", copy}, {"message", e.what()}});
    return false;
  }
}

}  // namespace

void Homecoming::bring(const std::string& copy, const std::string& note) {
  if (is_brought(copy, note, first_tries) || !under_way_.insert(note).second) return;
  net::spawn(executor_, "source.leave_cgroup", keep_trying(copy, note));
}

net::awaitable<void> Homecoming::keep_trying(std::string copy, std::string note) {
  const auto self = shared_from_this();
  Clock::duration pause = first_pause_;
  do {
    co_await net::sleep_for(pause);
    pause = std::min(2 * pause, longest_pause);
  } while (!is_brought(copy, note, 1));
  under_way_.erase(note);
  log::info("source.left_cgroup", {{"cgroup", copy}});
}

}  // namespace godwit::service
