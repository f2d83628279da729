#include "agent/engine/holder/place.h"

#include "common/base/check.h"

#include <fmt/format.h>

#include <sys/stat.h>

namespace godwit::engine::holder {

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
  return run_directory() / fmt::format("{}.{}.{}", pid, start_time, what);
}

}  // namespace godwit::engine::holder
