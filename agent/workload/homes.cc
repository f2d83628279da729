#include "agent/workload/homes.h"

#include "common/base/durable_file.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <sstream>
#include <thread>

namespace godwit::workload {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t largest_note = 64u << 20;
constexpr int most_passes = 20;  // over the processes of a copy, while new ones are born

// Of a process that may end at any moment. Nothing: it has.
template <class Act>
auto unless_ended(Act act) -> std::optional<decltype(act())> {
  try {
    return act();
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
    return std::nullopt;
  }
}

const Home& home_of(pid_t pid, const std::vector<Home>& homes) {
  for (pid_t at = pid; at > 1;) {
    const auto stat = unless_ended([&] { return proc::Reader(at).stat(); });
    if (!stat) break;
    const auto is_at = [&](const Home& h) { return h.pid == at && h.start_time == stat->start_time; };
    if (const auto found = std::ranges::find_if(homes, is_at); found != homes.end()) return *found;
    at = stat->ppid;
  }
  return homes.front();
}

// A home that was removed when the last of it had left is made again: the limits above it hold.
void move_home(pid_t pid, const std::string& home) {
  unless_ended([&] {
    Cgroup::create(home).add(pid);
    return true;
  });
}

void move_all_home(const Cgroup& copy, const std::vector<Home>& homes) {
  for (int pass = 0; pass < most_passes; ++pass) {
    const std::vector<pid_t> pids = copy.pids();
    if (pids.empty()) return;
    std::exception_ptr problem;
    for (const pid_t pid : pids) {
      try {
        move_home(pid, home_of(pid, homes).cgroup);
      } catch (const Error&) {
        problem = std::current_exception();  // the others go home all the same
      }
    }
    if (problem) std::rethrow_exception(problem);
  }
}

}  // namespace

std::string note_of(const std::vector<Home>& homes) {
  std::string text;
  for (const Home& h : homes) text += fmt::format("{} {} {}\n", h.pid, h.start_time, h.cgroup);
  return text;
}

std::vector<Home> parse_homes(const std::string& text) {
  std::vector<Home> homes;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Home home;
    words >> home.pid >> home.start_time >> std::ws;
    std::getline(words, home.cgroup);  // the rest: names may have spaces, but no line ends
    if (!words || home.pid <= 0 || !fs::path(home.cgroup).is_absolute() || home.cgroup.find("/..") != std::string::npos)
      fail(Errc::image_corrupt, "'{}' is no note of a home", line.substr(0, 200));
    homes.push_back(std::move(home));
  }
  if (homes.empty()) fail(Errc::image_corrupt, "a note of homes is empty");
  return homes;
}

void note_homes(const std::string& note, const std::vector<Home>& homes) { replace_file_durably(note, note_of(homes)); }

void bring_home(const std::string& copy, const std::string& note, int tries) {
  if (!fs::exists(note)) return;
  Doing doing("bringing home who is in {}", copy);
  if (const auto cgroup = Cgroup::open(copy)) {
    move_all_home(*cgroup, parse_homes(read_file(note, largest_note)));
    for (int i = 1; !cgroup->remove(); ++i) {
      if (i == tries) fail(Errc::busy, "{} stays in use", copy);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  fs::remove(note);
}

}  // namespace godwit::workload
