#include "agent/service/source_namespaces.h"

#include "common/base/error.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::service {
namespace {

using Place = std::tuple<std::string, dev_t, std::string>;
Place place_of(const proc::Mount& m) { return {m.point, m.dev, m.root}; }

// Mounts are numbered as they are made (6.8+); 0 where they are not, or where nothing can be seen.
std::uint64_t number_of_mount(pid_t root, const std::string& point) {
  constexpr unsigned mnt_id_unique = 0x4000;
  constexpr int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  struct statx st{};
  const std::string path = fmt::format("/proc/{}/root{}", root, point);
  return ::statx(AT_FDCWD, path.c_str(), flags, mnt_id_unique, &st) == 0 && (st.stx_mask & mnt_id_unique) != 0
             ? st.stx_mnt_id
             : 0;
}

// An init begins with the mounts of its host, and makes /proc and /dev/pts of its own; what is more has been mounted
// inside, unless it is older than that /proc: then the host has had it once.
std::vector<std::string> mounted_inside(pid_t root) {
  std::set<Place> here;
  for (const proc::Mount& m : proc::Reader(::getpid()).mountinfo()) here.insert(place_of(m));
  const std::uint64_t begun = number_of_mount(root, "/proc");
  std::vector<std::string> added;
  for (const proc::Mount& m : proc::Reader(root).mountinfo()) {
    const bool made_by_init = (m.point == "/proc" && m.type == "proc") || (m.point == "/dev/pts" && m.type == "devpts");
    if (made_by_init || here.contains(place_of(m))) continue;
    const std::uint64_t number = number_of_mount(root, m.point);
    if (number == 0 || number > begun) added.push_back(m.point);
  }
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
