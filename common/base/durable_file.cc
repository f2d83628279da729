#include "common/base/durable_file.h"

#include "common/base/fd.h"

#include <filesystem>
#include <vector>

namespace godwit {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view unfinished = ".new";

enum class Reaches { page_cache, disk };

void sync(const std::string& path, int flags) {
  const UniqueFd fd = open_file(path, flags);
  check(::fsync(fd.get()), "sync {}", path);
}

void replace(const std::string& path, std::string_view data, Reaches reaches) {
  const std::string fresh = path + std::string(unfinished);
  try {
    write_file(fresh, data);
    if (reaches == Reaches::disk) sync(fresh, O_RDONLY);
    check(::rename(fresh.c_str(), path.c_str()), "rename {} to {}", fresh, path);
  } catch (...) {
    ::unlink(fresh.c_str());
    throw;
  }
  if (reaches == Reaches::page_cache) return;
  const std::string directory = fs::path(path).parent_path();
  sync(directory.empty() ? "." : directory, O_RDONLY | O_DIRECTORY);
}

}  // namespace

void replace_file(const std::string& path, std::string_view data) { replace(path, data, Reaches::page_cache); }

void replace_file_durably(const std::string& path, std::string_view data) { replace(path, data, Reaches::disk); }

void remove_unfinished(const std::string& directory) {
  std::vector<fs::path> found;
  for (const auto& file : fs::directory_iterator(directory))
    if (file.is_regular_file() && file.path().filename().string().ends_with(unfinished)) found.push_back(file.path());
  for (const fs::path& path : found) fs::remove(path);
}

}  // namespace godwit
