// Checks: io_getevents and io_pgetevents, with and without a timeout or another signal mask: no EINTR, the right
// length, and each gets what was submitted.

#include "tests/workloads/blocked_call.h"

#include <csignal>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <list>
#include <string>
#include <sys/syscall.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;

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
  std::list<BlockedCall> endless, timed;
  endless.emplace_back("io_getevents", [&] { return wait(plain, plain_event, 3600); });
  endless.emplace_back("io_pgetevents", [&] { return wait_masked(masked, masked_event, 3600); });
  timed.emplace_back("io_getevents with a timeout", [&] {
    io_event none{};
    return wait(silent, none, seconds);
  });
  timed.emplace_back("io_pgetevents with a timeout", [&] {
    io_event none{};
    return wait_masked(silent, none, seconds);
  });
  for (const BlockedCall& call : endless) call.settle();
  for (const BlockedCall& call : timed) call.settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall& call : endless) call.still_blocked(w);
  std::uint64_t word = 0;
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
  for (const BlockedCall& call : endless) call.comes_back(w, 1);
  w.check(plain_event.data == plain && masked_event.data == masked, "who waited got other events");
  for (const BlockedCall& call : timed)
    if (call.comes_back(w, 0, seconds + 5)) call.took(w, seconds);
  return w.finish();
}
