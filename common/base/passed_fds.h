// Descriptors that ride along with a message on a unix socket (SCM_RIGHTS).
//
//   PassedFds passed;
//   passed.attach(message, fds);       sendmsg(socket, &message, ...)
//   passed.receive(socket, message);   PassedFds::take(message)
//
// It is what the message's control data points into, so it outlives the call.
#pragma once

#include "common/base/fd.h"

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <sys/socket.h>
#include <sys/types.h>

namespace godwit {

class PassedFds {
 public:
  static constexpr std::size_t most = 16;

  void attach(msghdr& message, std::span<const int> fds);
  // As recvmsg, but that it never fails with ECONNRESET: that says, once, that the other side has ended without having
  // read all, and of packets it comes before what that said last. The end is 0.
  ssize_t receive(int socket, msghdr& message, int flags = 0);
  // Those that came with it. More than there was room for, which the kernel has closed, are MSG_CTRUNC in its flags.
  static std::vector<UniqueFd> take(msghdr& message);

 private:
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * most)> control_{};
};

}  // namespace godwit
