// Descriptors that ride along with a message on a unix socket (SCM_RIGHTS).
//
//   PassedFds passed;
//   passed.attach(message, fds);   sendmsg(socket, &message, ...)
//   passed.expect(message);        recvmsg(socket, &message, MSG_CMSG_CLOEXEC); passed.take(message)
//
// It is what the message's control data points into, so it outlives the call.
#pragma once

#include "common/base/fd.h"

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <sys/socket.h>

namespace godwit {

class PassedFds {
 public:
  static constexpr std::size_t most = 16;

  void attach(msghdr& message, std::span<const int> fds);
  void expect(msghdr& message);
  // Those that came with it. More than there was room for, which the kernel has closed, are MSG_CTRUNC in its flags.
  static std::vector<UniqueFd> take(msghdr& message);

 private:
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * most)> control_{};
};

}  // namespace godwit
