#include "common/proc/exit_status.h"

#include <cstdint>

#include <sys/ioctl.h>

namespace godwit::proc {

// pidfd_info of linux/pidfd.h, as far as its first version goes (PIDFD_GET_INFO, 6.13+).
std::optional<int> exit_status(int pidfd) {
  struct Info {
    std::uint64_t mask, cgroup;
    std::uint32_t ids[11];
    std::int32_t exit_code;
  };
  static_assert(sizeof(Info) == 64);
  constexpr std::uint64_t wants_exit = 1u << 3;
  constexpr unsigned long get_info = _IOWR(0xff, 11, Info);
  Info info{.mask = wants_exit, .cgroup = 0, .ids = {}, .exit_code = 0};
  if (::ioctl(pidfd, get_info, &info) == -1 || !(info.mask & wants_exit)) return std::nullopt;
  return info.exit_code;
}

}  // namespace godwit::proc
