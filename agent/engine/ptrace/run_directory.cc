#include "agent/engine/ptrace/run_directory.h"

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <fmt/format.h>

#include <chrono>
#include <sstream>
#include <string>

#include <sys/stat.h>

namespace godwit::engine {
namespace {

constexpr std::chrono::hours others_have_cleared{1};

// PID.STARTTIME of a file's name; false: it has none.
bool parse_owner(const std::string& name, pid_t& pid, std::uint64_t& start_time) {
  std::istringstream text(name);
  char dot = 0;
  return text >> pid >> dot >> start_time && dot == '.';
}

bool lives(pid_t pid, std::uint64_t start_time) {
  try {
    return proc::Reader(pid).stat().start_time == start_time;
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
    return false;
  }
}

}  // namespace

std::filesystem::path run_directory() {
  const std::filesystem::path directory = "/run/godwit-engine";
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) check(-1, "make {}", directory.string());
  struct stat st{};
  check(::lstat(directory.c_str(), &st), "stat {}", directory.string());
  if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || (st.st_mode & 077))
    fail(Errc::denied, "{} is not a directory for root alone", directory.string());
  return directory;
}

std::filesystem::path run_file(pid_t pid, std::uint64_t start_time, std::string_view what) {
  return run_directory() / fmt::format("{}.{}{}{}", pid, start_time, what.empty() ? "" : ".", what);
}

void forget_process(pid_t pid, std::uint64_t start_time) noexcept {
  try {
    for (const std::string_view what : {"", "stopped", "holder"})
      std::filesystem::remove(run_file(pid, start_time, what));
  } catch (const std::exception& e) {
    log::warn("run.not_cleared", {{"pid", pid}, {"error", e.what()}});
  }
}

void forget_ended() noexcept {
  try {
    const auto now = std::filesystem::file_time_type::clock::now();
    for (const auto& entry : std::filesystem::directory_iterator(run_directory())) {
      pid_t pid = 0;
      std::uint64_t start_time = 0;
      if (!parse_owner(entry.path().filename().string(), pid, start_time)) continue;
      std::error_code gone;  // somebody else may be at it
      const auto written = entry.last_write_time(gone);
      if (gone || now - written <= others_have_cleared || lives(pid, start_time)) continue;
      std::filesystem::remove(entry.path(), gone);
    }
  } catch (const std::exception& e) {
    log::warn("run.not_cleared", {{"error", e.what()}});
  }
}

}  // namespace godwit::engine
