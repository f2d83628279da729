#include "agent/service/held_fifos.h"

#include "common/proc/reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <string_view>
#include <utility>

#include <sys/stat.h>

namespace godwit::service {
namespace {

using FileId = std::pair<dev_t, ino_t>;

std::string_view name_in(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// By what they are here; one that is not there is told of elsewhere.
std::map<FileId, std::string> needed_fifos(const engine::Surveyed& survey) {
  std::map<FileId, std::string> fifos;
  for (const engine::NeededFile& file : survey.files()) {
    struct stat st{};
    if (S_ISFIFO(file.mode()) && ::stat(file.path().c_str(), &st) == 0 && S_ISFIFO(st.st_mode))
      fifos[{st.st_dev, st.st_ino}] = file.path();
  }
  return fifos;
}

// A file's path as a process sees it may be another one, its name is the same. Only what has the name of a fifo is
// looked at closer: a file on a server that is gone would keep us.
bool may_be(const std::string& link, const std::map<FileId, std::string>& fifos) {
  return std::ranges::any_of(fifos, [&](const auto& fifo) { return name_in(fifo.second) == name_in(link); });
}

// Those that the process has open. It may end meanwhile, or be one that we may not look at.
std::vector<std::string> held_by(pid_t pid, const std::map<FileId, std::string>& fifos) {
  std::vector<std::string> held;
  try {
    const proc::Reader proc(pid);
    for (const int number : proc.fds()) {
      const std::string file = fmt::format("fd/{}", number);
      std::array<char, 4096> link;
      const ssize_t size = ::readlinkat(proc.dir(), file.c_str(), link.data(), link.size());
      struct stat st{};
      if (size <= 0 || !may_be({link.data(), static_cast<std::size_t>(size)}, fifos)) continue;
      if (::fstatat(proc.dir(), file.c_str(), &st, 0) != 0) continue;
      if (const auto found = fifos.find({st.st_dev, st.st_ino}); found != fifos.end()) held.push_back(found->second);
    }
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone && e.sys_errno() != EACCES && e.sys_errno() != EPERM) throw;
  }
  return held;
}

}  // namespace

bool names_fifos(const engine::Surveyed& survey) {
  return std::ranges::any_of(survey.files(), [](const engine::NeededFile& file) { return S_ISFIFO(file.mode()); });
}

std::vector<std::string> check_fifos(const engine::Surveyed& survey) {
  const std::map<FileId, std::string> fifos = needed_fifos(survey);
  std::map<std::string, std::string> wrong;
  if (fifos.empty()) return {};
  for (const pid_t pid : proc::all_pids())
    for (const std::string& path : held_by(pid, fifos))
      wrong.try_emplace(path, fmt::format("the fifo {} is open in process {} here; end that first", path, pid));
  std::vector<std::string> sentences;
  for (auto& [path, sentence] : wrong) sentences.push_back(std::move(sentence));
  return sentences;
}

}  // namespace godwit::service
