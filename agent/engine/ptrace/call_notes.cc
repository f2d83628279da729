#include "agent/engine/ptrace/call_notes.h"

#include "agent/engine/ptrace/run_directory.h"
#include "common/base/fd.h"
#include "common/base/log.h"

#include <fmt/format.h>

#include <filesystem>
#include <sstream>
#include <string>

namespace godwit::engine {

void keep_notes(pid_t pid, std::uint64_t start_time, const std::vector<CallNote>& notes) noexcept {
  try {
    if (notes.empty()) return;
    std::string text;
    for (const CallNote& n : notes) text += fmt::format("{} {} {} {} {}\n", n.tid, n.number, n.rip, n.rsp, n.begun_ns);
    write_file(run_file(pid, start_time), text);
  } catch (const std::exception& e) {
    log::warn("calls.not_noted", {{"pid", pid}, {"error", e.what()}});
  }
}

std::vector<CallNote> parse_notes(const std::string& text) {
  std::vector<CallNote> notes;
  std::istringstream words(text);
  for (CallNote n; words >> n.tid >> n.number >> n.rip >> n.rsp >> n.begun_ns;) notes.push_back(n);
  return notes;
}

std::vector<CallNote> read_notes(pid_t pid, std::uint64_t start_time) noexcept {
  try {
    const std::filesystem::path path = run_file(pid, start_time);
    if (std::filesystem::exists(path)) return parse_notes(read_file(path, 1 << 20));
  } catch (const std::exception& e) {
    log::warn("calls.notes_unreadable", {{"pid", pid}, {"error", e.what()}});
  }
  return {};
}

}  // namespace godwit::engine
