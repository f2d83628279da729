// A directory for one input: emptied, not made, for each.
#pragma once

#include "common/base/fd.h"

#include <cstdlib>
#include <filesystem>
#include <string>

namespace godwit {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string path = "/dev/shm/godwit-fuzz-XXXXXX";
    if (!::mkdtemp(path.data())) std::abort();
    path_ = path;
    fd_ = open_file(path, O_RDONLY | O_DIRECTORY);
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  int emptied() const {
    for (const auto& entry : std::filesystem::directory_iterator(path_)) std::filesystem::remove_all(entry.path());
    return fd_.get();
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  UniqueFd fd_;
};

}  // namespace godwit
