#include "agent/engine/holder/keeper.h"

#include "agent/engine/commands/command_line.h"
#include "agent/engine/commands/tracked_dump.h"
#include "agent/engine/holder/connect.h"
#include "agent/engine/holder/holder.pb.h"
#include "agent/engine/holder/packet.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/standard_streams.h"
#include "common/proc/reader.h"

#include <chrono>
#include <csignal>
#include <cstring>

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace godwit::engine::holder {
namespace {

constexpr int look_every_ms = 1000;  // whether the process runs another program: nothing tells us of an exec
// For the command that started us to come: it does at once, or it has died.
constexpr std::chrono::seconds first_request_within{10};
// For a command that has been greeted: it has its request ready. Others wait behind it.
constexpr std::chrono::seconds request_within{5};

void put(Failure& failure, const Error& e) {
  failure.set_code(std::string(name(e.errc())));
  failure.set_message(e.message());
  failure.set_hint(e.hint());
}

// The command's working directory and output are ours while we work for it.
class Place {
 public:
  explicit Place(const std::vector<UniqueFd>& fds) {
    if (fds.size() < 3) fail(Errc::protocol, "a request without its descriptors");
    check(::fchdir(fds[0].get()), "go to the directory of the command");
    check(::dup2(fds[1].get(), 1), "take over the output of the command");
    check(::dup2(fds[2].get(), 2), "take over the errors of the command");
  }
  ~Place() {
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    ::dup2(null.get(), 1);
    ::dup2(null.get(), 2);
    [[maybe_unused]] const int rc = ::chdir("/");  // not to stand in the way of an unmount
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
};

// Of the command that a dump is for: nobody has the process stopped for longer when it has been interrupted.
void refuse_if_gone(int socket) {
  pollfd command{.fd = socket, .events = 0, .revents = 0};
  if (::poll(&command, 1, 0) > 0 && (command.revents & POLLHUP)) fail(Errc::peer_lost, "the command has gone");
}

class Keeper {
 public:
  Keeper(pid_t pid, UniqueFd listener)
      : pid_(pid),
        pidfd_(static_cast<int>(check(::syscall(SYS_pidfd_open, pid, 0), "open process {}", pid))),
        address_(address_of(pid, proc::Reader(pid).stat().start_time)),
        listener_(std::move(listener)),
        memory_(check(::memfd_create("godwit-journal", MFD_CLOEXEC), "create a memfd")),
        journal_(UniqueFd(check(::fcntl(memory_.get(), F_DUPFD_CLOEXEC, 0), "duplicate a descriptor"))),
        dump_(pid, journal_) {
    sockaddr_un bound{};
    socklen_t size = sizeof bound;
    check(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &size), "ask for the socket's name");
    if (std::strcmp(bound.sun_path, address_.sun_path) != 0)
      fail(Errc::target_gone, "process {} is another one by now", pid);
    if (::stat(address_.sun_path, &socket_) != 0) socket_ = {};
  }
  ~Keeper() { unlink_own(); }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  void run() {
    const auto started = std::chrono::steady_clock::now();
    while (!over_) {
      pollfd events[] = {{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                         {.fd = pidfd_.get(), .events = POLLIN, .revents = 0}};
      const int n = ::poll(events, 2, look_every_ms);
      if (n < 0 && errno != EINTR) check(n, "wait for commands");
      if (n > 0 && events[1].revents) return;  // it has ended
      if (n > 0 && events[0].revents) serve_next();
      if (served_ && !over_ && !dump_.tracking()) return;
      if (!served_ && std::chrono::steady_clock::now() - started > first_request_within) return;
    }
  }

 private:
  // Once it has gone the next holder's has the name.
  void unlink_own() {
    struct stat there{};
    if (::stat(address_.sun_path, &there) == 0 && there.st_ino == socket_.st_ino && there.st_dev == socket_.st_dev)
      ::unlink(address_.sun_path);
  }

  void serve_next() {
    const UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) return;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != 0) return;
    try {
      Hello hello;
      hello.set_pid(pid_);
      hello.set_holder(::getpid());
      send(socket.get(), hello, {memory_.get()});
      Request request;
      std::vector<UniqueFd> fds = receive(socket.get(), request, request_within);
      served_ = true;
      if (request.end())
        over_ = true;
      else
        serve(socket.get(), request, std::move(fds));
    } catch (const Error& e) {
      if (e.errc() != Errc::peer_lost) log::error("holder.failed", {{"message", e.message()}});
      if (e.errc() == Errc::timed_out) give_up(socket.get());
    }
  }

  // Of a command that comes with its request after all.
  static void give_up(int socket) {
    Reply reply;
    put(*reply.mutable_failure(),
        Error(Errc::busy, "the process that keeps the tracker has not waited for this command",
              "nothing was done; try again"));
    try {
      send(socket, reply);
    } catch (const Error&) {  // it has gone
    }
  }

  void serve(int socket, const Request& request, std::vector<UniqueFd> fds) {
    const Place place(fds);
    Reply reply;
    try {
      work(socket, {request.words().begin(), request.words().end()}, fds.size() > 3 ? std::move(fds[3]) : UniqueFd());
      reply.set_done(true);
    } catch (const Error& e) {
      put(*reply.mutable_failure(), e);
    }
    if (over_) unlink_own();  // before the command goes on: it may start another one
    send(socket, reply);
  }

  void work(int socket, const std::vector<std::string>& words, UniqueFd page_server) {
    const std::optional<commands::Options> options = commands::parse(words);
    if (!options || options->tree != pid_) fail(Errc::protocol, "a command that is none for this holder");
    commands::set_verbosity(*options);
    const commands::Places places = commands::open_places(*options, commands::Missing::is_made);
    dump_.run(
        *options, places,
        [&](std::string_view action, pid_t pid) {
          Reply reply;
          reply.mutable_step()->set_action(std::string(action));
          reply.mutable_step()->set_pid(pid);
          send(socket, reply);
          StepDone done;
          receive(socket, done);  // a script may take as long as it likes, and the process waits for it
          if (done.has_failure())
            throw Error(errc_from_name(done.failure().code()), done.failure().message(), done.failure().hint());
        },
        std::move(page_server), [socket] { refuse_if_gone(socket); });
    over_ = options->command == "dump" && !options->track_memory;
  }

  pid_t pid_;
  UniqueFd pidfd_;
  sockaddr_un address_;
  struct stat socket_{};
  UniqueFd listener_;
  UniqueFd memory_;
  Journal journal_;
  commands::TrackedDump dump_;
  bool over_ = false, served_ = false;
};

}  // namespace

int run_holder(const commands::Options& o) {
  check(::chdir("/"), "go to /");  // not to stand in the way of an unmount
  survive_broken_pipes();          // what it logs goes to the commands, which may end
  Keeper keeper(o.tree, UniqueFd(o.control));
  keeper.run();
  return 0;
}

}  // namespace godwit::engine::holder
