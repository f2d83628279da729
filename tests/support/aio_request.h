// One request of native AIO, for tests: what a target submits that the engine is to find.
#pragma once

#include <cstdint>

#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit {

// IOCB_CMD_PREAD of some bytes, or IOCB_CMD_POLL for input. `number`: what its event will say.
inline bool submit_aio(aio_context_t ring, int opcode, int fd, std::uint64_t number) {
  static std::uint64_t word;
  iocb request{};
  request.aio_data = number;
  request.aio_lio_opcode = static_cast<std::uint16_t>(opcode);
  request.aio_fildes = static_cast<std::uint32_t>(fd);
  request.aio_buf = opcode == IOCB_CMD_POLL ? POLLIN : reinterpret_cast<std::uintptr_t>(&word);
  request.aio_nbytes = opcode == IOCB_CMD_POLL ? 0 : sizeof word;
  iocb* one = &request;
  return ::syscall(SYS_io_submit, ring, 1, &one) == 1;
}

}  // namespace godwit
