#include "tests/support/synced_disk.h"

#include "common/base/fd.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <utility>

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::test {
namespace {

namespace fs = std::filesystem;

SyncedDisk* watching = nullptr;

int sync(long call, int fd) {
  const long result = ::syscall(call, fd);
  const int error = errno;
  if (result == 0 && watching) watching->note(fd);
  errno = error;
  return static_cast<int>(result);
}

ino_t inode_of(const std::string& path) {
  struct stat status{};
  check(::stat(path.c_str(), &status), "stat {}", path);
  return status.st_ino;
}

}  // namespace

SyncedDisk::SyncedDisk(std::string directory) : directory_(fs::canonical(directory)) { watching = this; }
SyncedDisk::~SyncedDisk() { watching = nullptr; }

void SyncedDisk::note(int fd) {
  const std::string self = fmt::format("/proc/self/fd/{}", fd), path = fs::read_symlink(self);
  if (path == directory_) {
    names_.clear();
    for (const auto& entry : fs::directory_iterator(directory_))
      if (entry.is_regular_file()) names_[entry.path().filename()] = inode_of(entry.path());
    synced_.emplace_back(".");
  } else if (fs::path(path).parent_path() == directory_) {
    if (!fs::is_directory(self)) {
      std::ifstream in(self);  // opened anew: whoever syncs may only write
      contents_[inode_of(self)] = std::string(std::istreambuf_iterator<char>(in), {});
    }
    synced_.push_back(fs::path(path).filename());
  }
}

void SyncedDisk::find_after_power_loss(const std::string& directory) const {
  fs::remove_all(directory);
  fs::create_directory(directory);
  for (const auto& [name, inode] : names_) {
    const auto content = contents_.find(inode);
    std::ofstream(directory + "/" + name) << (content == contents_.end() ? "" : content->second);
  }
}

}  // namespace godwit::test

extern "C" int fsync(int fd) { return godwit::test::sync(SYS_fsync, fd); }
extern "C" int fdatasync(int fd) { return godwit::test::sync(SYS_fdatasync, fd); }
