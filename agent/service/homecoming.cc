#include "agent/service/homecoming.h"

#include "agent/service/keep_trying.h"
#include "agent/workload/homes.h"
#include "common/base/log.h"

namespace godwit::service {
namespace {

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
  co_await service::keep_trying(first_pause_, [&] { return is_brought(copy, note, 1); });
  under_way_.erase(note);
  log::info("source.left_cgroup", {{"cgroup", copy}});
}

}  // namespace godwit::service
