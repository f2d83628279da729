#include "common/base/storage.h"

#include "common/base/fault.h"

namespace godwit {

void sync_file(int fd, const std::string& name) {
  const Doing doing("bring {} to the disk", name);
  fault::point("storage.sync");
  check(::fdatasync(fd), "fdatasync");
}

void sync_directory(int fd, const std::string& name) {
  const Doing doing("bring the names in {} to the disk", name);
  fault::point("storage.sync");
  check(::fsync(fd), "fsync");
}

void sync_directory_and_its_name(int fd, const std::string& name) {
  sync_directory(fd, name);
  sync_directory(open_at(fd, "..", O_RDONLY | O_DIRECTORY).get(), name + "/..");
}

void close_written(UniqueFd file, const std::string& name) {
  const Doing doing("finish writing {}", name);
  check(::close(file.release()), "close");
}

}  // namespace godwit
