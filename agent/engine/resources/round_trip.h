// For the tests of this folder: a table of descriptors made natively, dumped, restored, looked at.
#pragma once

#include "agent/engine/resources/fd_table.h"

#include <functional>
#include <string>
#include <vector>

namespace godwit::engine::resources {

// A child whose descriptors 0 to 2 are /dev/null and that has nothing else open, after `make` has run in it; stopped.
// Killed and reaped when this goes.
class StoppedChild {
 public:
  explicit StoppedChild(const std::function<void()>& make);
  ~StoppedChild();
  StoppedChild(const StoppedChild&) = delete;
  StoppedChild& operator=(const StoppedChild&) = delete;

  pid_t pid() const { return pid_; }
  StoppedTask task() const { return {.pid = pid_, .pidfd = pidfd_.get(), .guest_pid = 1, .files_id = 1}; }

 private:
  pid_t pid_ = 0;
  UniqueFd pidfd_;
};

struct Dumped {
  image::ImageSet images;
  std::map<std::uint32_t, std::string> segments;  // content by shmid
  std::vector<std::string> notices;
};

Dumped dump_table(const StoppedChild& child, const Options& options = {});

// In a fresh child: restore, then `verify`, whose answer is returned: empty when all is as it was.
std::string restore_and_verify(const Dumped& dumped, const std::function<std::string()>& verify);

// All of it; the first child is gone before the second begins.
std::string round_trip(const std::function<void()>& make, const std::function<std::string()>& verify,
                       const Options& options = {});

void place(int fd, int number);  // dup2 and close; throws
std::string now_or_never(int fd,
                         std::size_t size);  // read without waiting; "" when there is nothing, "!errno" on error

// "name: wanted 1, found 2" when they differ, else empty.
template <class T, class U>
std::string differs(std::string_view name, const T& wanted, const U& found) {
  if (wanted == found) return {};
  return fmt::format("{}: wanted {}, found {}; ", name, wanted, found);
}

// One look after the other: the operands of + may be evaluated in any order, those of << may not.
inline std::string operator<<(const std::string& so_far, const std::string& more) { return so_far + more; }

}  // namespace godwit::engine::resources
