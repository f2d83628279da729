// For tests: what a directory holds on the disk, which is what a machine that loses its power now would find there.
//
// The program that links this has another fsync and fdatasync: beside what they do, they note what the file holds, or
// which names the directory has. Nothing else is taken to reach the disk: no write, no rename, no name of a new file.
// One at a time, one thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::test {

class SyncedDisk {
 public:
  explicit SyncedDisk(std::string directory);
  ~SyncedDisk();
  SyncedDisk(const SyncedDisk&) = delete;
  SyncedDisk& operator=(const SyncedDisk&) = delete;

  // Makes `directory`, or makes it anew, with the files as they would be found.
  void find_after_power_loss(const std::string& directory) const;

  // What was synced, in order: the names of files and directories in it, and "." for itself.
  const std::vector<std::string>& synced() const { return synced_; }

  void note(int fd);

 private:
  std::string directory_;
  std::map<std::string, ino_t> names_;
  std::map<ino_t, std::string> contents_;
  std::vector<std::string> synced_;
};

}  // namespace godwit::test
