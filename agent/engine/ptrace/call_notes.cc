#include "agent/engine/ptrace/call_notes.h"

#include "common/base/fd.h"
#include "common/base/log.h"

#include <fmt/format.h>

#include <filesystem>
#include <sstream>
#include <string>

namespace godwit::engine {
namespace {

const std::filesystem::path directory = "/run/godwit-engine";

std::filesystem::path file_of(pid_t pid, std::uint64_t start_time) {
  return directory / fmt::format("{}.{}", pid, start_time);
}

// Of processes that are gone; a PID that is in use again keeps the old file until then, harmlessly.
void prune() {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();  // PID.STARTTIME, perhaps with a suffix
    const std::string pid = name.substr(0, name.find('.'));
    const bool is_pid = !pid.empty() && pid.find_first_not_of("0123456789") == std::string::npos;
    if (is_pid && !std::filesystem::exists("/proc/" + pid)) std::filesystem::remove(entry.path());
  }
}

}  // namespace

void keep_notes(pid_t pid, std::uint64_t start_time, const std::vector<CallNote>& notes) noexcept {
  try {
    if (notes.empty()) return;
    std::filesystem::create_directories(directory);
    std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
    prune();
    std::string text;
    for (const CallNote& n : notes) text += fmt::format("{} {} {} {} {}\n", n.tid, n.number, n.rip, n.rsp, n.begun_ns);
    write_file(file_of(pid, start_time), text);
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
    const std::filesystem::path path = file_of(pid, start_time);
    if (std::filesystem::exists(path)) return parse_notes(read_file(path, 1 << 20));
  } catch (const std::exception& e) {
    log::warn("calls.notes_unreadable", {{"pid", pid}, {"error", e.what()}});
  }
  return {};
}

}  // namespace godwit::engine
