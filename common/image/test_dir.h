// A directory that lives as long as a test.
#pragma once

#include "common/base/fd.h"

#include <filesystem>
#include <string>

#include <stdlib.h>

namespace godwit::image {

class TestDir {
 public:
  TestDir() : path_("/tmp/godwit-image-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) throw syscall_error(errno, "mkdtemp");
    fd_ = open_file(path_, O_RDONLY | O_DIRECTORY);
  }
  ~TestDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestDir(const TestDir&) = delete;
  TestDir& operator=(const TestDir&) = delete;

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace godwit::image
