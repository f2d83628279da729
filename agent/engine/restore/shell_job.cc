#include "agent/engine/restore/shell_job.h"

#include "agent/engine/resources/pseudo_terminal.h"
#include "agent/engine/resources/terminal_images.h"
#include "agent/engine/restore/process_plan.h"
#include "common/base/error.h"

#include <set>

namespace godwit::engine {
namespace {

// One without settings had been hung up before the dump: CRIU writes such.
bool is_outer(const image::TtyInfoEntry& info) {
  return info.type() == image::TTY_PTY && info.has_termios() && !resources::is_master(info);
}

}  // namespace

ShellJob shell_job_of(const image::ImageSet& images) {
  const TreePlan tree = read_tree(images);
  const auto infos = images.records<image::TtyInfoEntry>(image::Kind::tty_info);
  std::set<int> outer, inner;
  for (const image::TtyInfoEntry& info : infos) {
    resources::info_of(info.id(), infos);  // its number is one that a terminal can have
    if (resources::is_master(info)) inner.insert(static_cast<int>(info.pty().index()));
    if (is_outer(info)) outer.insert(static_cast<int>(info.pty().index()));
  }
  for (const ProcessPlan& p : tree)
    if (p.terminal >= 0) outer.insert(p.terminal);
  for (const int terminal : inner) outer.erase(terminal);
  if (outer.size() > 1) fail(Errc::unsupported, "{} terminals whose masters are not in the images", outer.size());

  const ProcessPlan& root = tree.front();
  ShellJob job;
  if (!outer.empty()) job.terminal = *outer.begin();
  for (const ProcessPlan& p : tree) {
    if (job.terminal < 0 || p.terminal != job.terminal) continue;
    if (p.sid != root.sid)
      fail(Errc::unsupported, "process {}: {}, whose master is not in the images, controls session {}", p.pid,
           resources::pseudo_terminal::path_of(static_cast<unsigned>(job.terminal)), p.sid);
    job.controlled = true;
  }
  job.in_session = job.controlled || (job.terminal < 0 && root.sid != root.pid);
  return job;
}

std::optional<image::TtyInfoEntry> describe_terminal(const ShellJob& job, const image::ImageSet& images) {
  for (const auto& info : images.records<image::TtyInfoEntry>(image::Kind::tty_info))
    if (is_outer(info) && static_cast<int>(info.pty().index()) == job.terminal) return info;
  return std::nullopt;
}

}  // namespace godwit::engine
