// What agent and engine read on their node besides /proc/PID: tables of the kernel, and notes that they have written
// themselves. The first byte picks one.
#include "agent/engine/commands/stopped.h"
#include "agent/engine/ptrace/call_notes.h"
#include "agent/engine/resources/multicast.h"
#include "agent/engine/restore/clock_offsets.h"
#include "agent/engine/tasks/ipc_objects.h"
#include "agent/service/cgroup_root.h"
#include "agent/service/facts.h"
#include "agent/workload/cpu_limit.h"
#include "agent/workload/homes.h"
#include "agent/workload/init.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace godwit {
namespace {

void limit_note(const std::string& text) {
  const auto place = workload::parse_limit_note(text);
  if (!place) return;
  require(place->file.starts_with('/'));
  const auto again = workload::parse_limit_note(note_of(*place));
  require(again && again->file == place->file && again->lifted == place->lifted && again->group == place->group &&
          again->home == place->home);
}

// It says into which cgroups processes are put back: none of them leads out of another.
void homes(const std::string& text) {
  const std::vector<workload::Home> homes = workload::parse_homes(text);
  for (const workload::Home& home : homes) {
    require(home.pid > 0 && home.cgroup.starts_with('/'));
    require(std::ranges::none_of(std::filesystem::path(home.cgroup), [](const auto& part) { return part == ".."; }));
  }
  require(std::ranges::equal(workload::parse_homes(workload::note_of(homes)), homes,
                             [](const workload::Home& a, const workload::Home& b) {
                               return a.pid == b.pid && a.start_time == b.start_time && a.cgroup == b.cgroup;
                             }));
}

void cgroup_root(const std::string& text) {
  const auto root = service::parse_cgroup_root(text);
  if (!root) return;
  const auto again = service::parse_cgroup_root(service::to_text(*root));
  require(again && again->boot_id == root->boot_id && again->id == root->id && again->path == root->path);
}

void clock_offsets(const std::string& text) {
  for (const char* clock : {"monotonic", "boottime"}) {
    const std::int64_t offset = engine::clock_offset(text, clock);
    require(engine::clock_offset(engine::clock_offset_line(clock, offset), clock) == offset);
  }
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const std::string text(input.substr(1));
  switch (input[0]) {
    case '4': engine::resources::parse_igmp(text); break;
    case '6': engine::resources::parse_igmp6(text); break;
    case 'i':
      for (const auto& row : engine::tasks::parse_ipc_table(text)) require(row.size() >= 7);
      break;
    case 'm': service::meminfo_bytes(text, "MemTotal"); break;
    case 'c': service::flags_in(text); break;
    case 'n': require(engine::parse_notes(text).size() <= text.size()); break;
    case 's': require(!engine::commands::parse_stopped_note(text).generation.empty()); break;
    case 'l': limit_note(text); break;
    case 'h': homes(text); break;
    case 'r': cgroup_root(text); break;
    case 'o': clock_offsets(text); break;
    case 'x': {
      const int code = workload::parse_exit_code(text);
      require(code >= -1 && code <= 128 + 255);
      break;
    }
    case 'p': require(raw(workload::parse_report(text)) > 0); break;
    default: break;
  }
}

}  // namespace godwit
