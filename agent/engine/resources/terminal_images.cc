#include "agent/engine/resources/terminal_images.h"

#include "common/base/error.h"

#include <algorithm>

#include <sys/sysmacros.h>

namespace godwit::engine::resources {
namespace {

constexpr unsigned most_terminals = 1 << 20;  // of one devpts, in the kernel

}  // namespace

bool is_master(const image::TtyInfoEntry& info) { return info.rdev() == makedev(5, 2); }

const image::TtyInfoEntry& info_of(std::uint32_t id, const std::vector<image::TtyInfoEntry>& all) {
  const auto at = std::ranges::find(all, id, &image::TtyInfoEntry::id);
  if (at == all.end()) fail(Errc::image_corrupt, "tty-info.img has no terminal {}", id);
  if (at->has_pty() && at->pty().index() >= most_terminals)
    fail(Errc::image_corrupt, "tty-info.img: there is no {}", pseudo_terminal::path_of(at->pty().index()));
  return *at;
}

std::optional<unsigned> terminal_of_session(std::uint32_t sid, const std::vector<image::TtyInfoEntry>& all) {
  const auto at = std::ranges::find_if(all, [&](const image::TtyInfoEntry& other) {
    return other.type() == image::TTY_PTY && other.sid() != 0 && other.sid() == sid;
  });
  return at == all.end() ? std::nullopt : std::optional(at->pty().index());
}

std::optional<unsigned> current_index(const image::TtyInfoEntry& current, const std::vector<image::TtyInfoEntry>& all) {
  return current.has_current_index() ? current.current_index() : terminal_of_session(current.sid(), all);
}

terminal_queues::Queues queues_of(const image::TtyInfoEntry& master, const image::ImageSet& images) {
  const auto all = images.records<image::TtyInfoEntry>(image::Kind::tty_info);
  terminal_queues::Queues queues;
  queues.halt = master.halt();
  for (const auto& data : images.records<image::TtyDataEntry>(image::Kind::tty_data)) {
    const image::TtyInfoEntry& of = info_of(data.tty_id(), all);
    if (!of.has_pty() || of.pty().index() != master.pty().index()) continue;
    if (is_master(of)) {
      queues.output = data.data();
      continue;
    }
    queues.input = data.data();
    queues.lines.assign(data.lines().begin(), data.lines().end());
    if (!queues.lines.empty()) continue;
    for (std::size_t at = 0, end; (end = data.data().find('\n', at)) != std::string::npos; at = end + 1)
      queues.lines.push_back(static_cast<std::uint32_t>(end + 1 - at));
  }
  return queues;
}

}  // namespace godwit::engine::resources
