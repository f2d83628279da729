#include "agent/engine/holder/connect.h"

#include "agent/engine/holder/holder.pb.h"
#include "agent/engine/holder/packet.h"
#include "agent/engine/ptrace/run_directory.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/waiting.h"
#include "common/proc/reader.h"

#include <string_view>

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

namespace godwit::engine::holder {
namespace {
constexpr std::chrono::seconds end_within{30};  // it unregisters the memory of the process: 12 to 79 ms per GiB
}  // namespace

sockaddr_un address_of(pid_t pid, std::uint64_t start_time) {
  const std::string path = run_file(pid, start_time, "holder").string();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

UniqueFd connect_to(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string_view(path).copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd socket(check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "make a socket"));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  if (errno != ENOENT && errno != ECONNREFUSED) check(-1, "connect to {}", path);
  return {};
}

UniqueFd connect_to(pid_t pid, std::uint64_t start_time) { return connect_to(address_of(pid, start_time).sun_path); }

bool comes_to_its_end(int holder_pidfd) {
  try {
    wait_ready(holder_pidfd, POLLIN, Clock::now() + end_within, "wait for the end of a holder");
    return true;
  } catch (const Error& e) {
    if (e.errc() != Errc::timed_out) throw;
    return false;
  }
}

void dismiss(pid_t pid) {
  const UniqueFd socket = connect_to(pid, proc::Reader(pid).stat().start_time);
  if (!socket) return;
  UniqueFd holder;
  try {
    Hello hello;
    receive(socket.get(), hello);
    holder.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, hello.holder(), 0), "open the holder of {}", pid)));
    Request request;
    request.set_end(true);
    send(socket.get(), request);
  } catch (const Error& e) {
    if (e.errc() != Errc::peer_lost && e.errc() != Errc::target_gone) throw;  // it is ending already
  }
  if (holder && !comes_to_its_end(holder.get()))
    fail(Errc::busy, "the tracker of an earlier dump of process {} does not end", pid);
  log::info("holder.dismissed", {{"pid", pid}});
}

}  // namespace godwit::engine::holder
