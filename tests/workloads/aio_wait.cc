// Checks: io_getevents and io_pgetevents, with and without a timeout or another signal mask: no EINTR, the right
// length, and each gets what was submitted.

#include "tests/workloads/waits.h"

#include <csignal>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <string>
#include <sys/syscall.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = Waits::seconds;

struct Mask {  // struct __aio_sigset
  const sigset_t* set;
  std::size_t size;
};

aio_context_t make_context() {
  aio_context_t context = 0;
  must(syscall(SYS_io_setup, 1, &context), "io_setup");
  return context;
}

long wait(aio_context_t context, io_event& event, time_t limit) {
  const timespec timeout{limit, 0};
  return syscall(SYS_io_getevents, context, 1, 1, &event, &timeout);
}

long wait_masked(aio_context_t context, io_event& event, time_t limit) {
  sigset_t open;
  sigemptyset(&open);
  const Mask mask{&open, _NSIG / 8};
  const timespec timeout{limit, 0};
  return syscall(SYS_io_pgetevents, context, 1, 1, &event, &timeout, &mask);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string path = w.path("file");
  write_file(path, "eight by");
  const int file = must(open(path.c_str(), O_RDONLY | O_CLOEXEC), "open");

  const aio_context_t plain = make_context(), masked = make_context(), silent = make_context();
  io_event plain_event{}, masked_event{};
  Waits waits;
  waits.endless.emplace_back("io_getevents", [&] { return wait(plain, plain_event, 3600); });
  waits.endless.emplace_back("io_pgetevents", [&] { return wait_masked(masked, masked_event, 3600); });
  waits.timed.emplace_back("io_getevents with a timeout", [&] {
    io_event none{};
    return wait(silent, none, seconds);
  });
  waits.timed.emplace_back("io_pgetevents with a timeout", [&] {
    io_event none{};
    return wait_masked(silent, none, seconds);
  });
  std::uint64_t word = 0;
  waits.across_the_move(w, [&] {
    for (const aio_context_t context : {plain, masked}) {
      iocb request{};
      request.aio_data = context;
      request.aio_lio_opcode = IOCB_CMD_PREAD;
      request.aio_fildes = static_cast<std::uint32_t>(file);
      request.aio_buf = reinterpret_cast<std::uintptr_t>(&word);
      request.aio_nbytes = sizeof word;
      iocb* const list = &request;
      w.check(syscall(SYS_io_submit, context, 1, &list) == 1, "io_submit: %m");
    }
  });
  w.check(plain_event.data == plain && masked_event.data == masked, "who waited got other events");
  return w.finish();
}
