#include "common/proc/fdinfo.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  const proc::Fdinfo info = proc::parse_fdinfo(input);
  for (const proc::InotifyWatch& watch : info.inotify) require(watch.handle.size() <= input.size());
  for (const proc::EpollTarget& target : info.epoll) proc::dev_of(target.dev);
}

}  // namespace godwit
