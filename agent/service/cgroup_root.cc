#include "agent/service/cgroup_root.h"

#include "common/base/durable_file.h"

#include <charconv>
#include <filesystem>

namespace godwit::service {
namespace {

constexpr std::size_t largest_note = 8192;

std::optional<CgroupRoot> read(const std::string& note) {
  if (!std::filesystem::exists(note)) return std::nullopt;
  return parse_cgroup_root(read_file(note, largest_note));
}

}  // namespace

// The path last, which may hold anything.
std::string to_text(const CgroupRoot& root) { return fmt::format("{} {} {}", root.boot_id, root.id, root.path); }

std::optional<CgroupRoot> parse_cgroup_root(std::string_view text) {
  const auto boot_end = text.find(' ');
  if (boot_end == 0 || boot_end == std::string_view::npos) return std::nullopt;
  CgroupRoot root{.boot_id = std::string(text.substr(0, boot_end))};
  text.remove_prefix(boot_end + 1);
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), root.id);
  if (problem != std::errc{} || end == text.data() + text.size() || *end != ' ') return std::nullopt;
  root.path = std::string(end + 1, text.data() + text.size());
  return root;
}

void keep_cgroup_root(const std::string& note, const std::string& boot_id, const workload::Cgroup& root) {
  Doing d("finding the cgroups of this agent's last life");
  const CgroupRoot now{.boot_id = boot_id, .id = root.id(), .path = root.path()};
  const std::optional<CgroupRoot> before = read(note);
  if (before && before->boot_id == boot_id && before->id != now.id) {
    const auto old = workload::Cgroup::open_by_id(before->id, before->path, root);
    if (old && old->populated())
      throw Error(Errc::refused,
                  fmt::format("what it left runs, or stands still, below {}, not below {}", before->path, now.path),
                  fmt::format("start it with --cgroup {}, or end what is in there", before->path));
  }
  replace_file(note, to_text(now));
}

}  // namespace godwit::service
