#include "agent/service/source_namespaces.h"

#include "common/base/error.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>

#include <unistd.h>

namespace godwit::service {
namespace {

using Place = std::tuple<std::string, dev_t, std::string>;
Place place_of(const proc::Mount& m) { return {m.point, m.dev, m.root}; }

// An init begins with the mounts of its host, and a /proc of its own; what is more has been mounted inside.
std::vector<std::string> mounted_inside(pid_t root) {
  std::set<Place> here;
  for (const proc::Mount& m : proc::Reader(::getpid()).mountinfo()) here.insert(place_of(m));
  std::vector<std::string> added;
  for (const proc::Mount& m : proc::Reader(root).mountinfo())
    if (!here.contains(place_of(m)) && !(m.point == "/proc" && m.type == "proc")) added.push_back(m.point);
  return added;
}

}  // namespace

void refuse_namespaces(pid_t root, pid_t init, engine::Surveyed& survey) {
  const proc::Reader reader(root);
  const auto refuse = [&](std::string reason, std::string hint) {
    engine::Refusal& r = *survey.add_refusals();
    r.set_pid(root);
    r.set_what(fmt::format("process {} ({})", root, reader.comm()));
    r.set_reason(std::move(reason));
    r.set_hint(std::move(hint));
  };
  const auto is_inits = [&](const std::string& name) {
    const bool given = name == "pid" || name == "mnt" || name == "ipc";
    const std::string link = "ns/" + name;
    return given && init > 0 && reader.link(link) == proc::Reader(init).link(link);
  };
  bool mounts_given = false;
  for (const std::string& name : survey.namespaces()) {
    if (!is_inits(name))
      refuse(fmt::format("it is in a {} namespace of its own, which is not carried", name),
             "start it as a workload, without namespaces of its own");
    else if (name == "mnt")
      mounts_given = true;
  }
  if (!mounts_given) return;
  for (const std::string& point : mounted_inside(root))
    refuse(fmt::format("what is mounted at {} is not mounted there outside, and is not carried", point),
           "mount it on both nodes before the workload starts");
}

}  // namespace godwit::service
