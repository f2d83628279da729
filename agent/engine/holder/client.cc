#include "agent/engine/holder/client.h"

#include "agent/engine/holder/connect.h"
#include "agent/engine/holder/detach.h"
#include "agent/engine/holder/holder.pb.h"
#include "agent/engine/holder/packet.h"
#include "agent/engine/ptrace/run_directory.h"
#include "agent/engine/memory/aio_requests.h"
#include "agent/engine/ptrace/recover.h"
#include "common/base/check.h"
#include "common/base/lock_file.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <sys/socket.h>
#include <sys/syscall.h>

namespace godwit::engine::holder {
namespace {

constexpr std::chrono::seconds start_within{30};
constexpr int tries = 3;  // a holder may be ending while we connect
// An agent starts it at once.
constexpr std::chrono::seconds agent_answers_within{10};

Error to_error(const Failure& f) { return Error(errc_from_name(f.code()), f.message(), f.hint()); }

// The node's agent starts it, if there is one.
bool started_by_agent(pid_t pid, int listener) {
  UniqueFd agent = connect_to(agent_socket);
  if (!agent) return false;
  try {
    Keep keep;
    keep.set_pid(pid);
    send(agent.get(), keep, {listener});
    Reply reply;
    receive(agent.get(), reply, agent_answers_within);
    if (!reply.has_failure()) return true;
    log::warn("holder.not_by_agent", {{"pid", pid}, {"error", reply.failure().message()}});
  } catch (const Error& e) {
    // It has our listener, and may start one yet: another one beside it would be one too many.
    if (e.errc() == Errc::timed_out)
      throw Error(
          Errc::timed_out,
          fmt::format("the agent has not started a holder of the tracker within {} s", agent_answers_within.count()),
          "see whether godwit-agent hangs; without one the command starts the holder itself");
    if (e.errc() != Errc::peer_lost) throw;  // it is being restarted
  }
  return false;
}

}  // namespace

std::optional<Client> Client::find(pid_t pid) {
  const std::uint64_t start_time = proc::Reader(pid).stat().start_time;
  for (int i = 0; i < tries; i++) {
    UniqueFd socket = connect_to(pid, start_time);
    if (!socket) return std::nullopt;
    Hello hello;
    try {
      std::vector<UniqueFd> fds = receive(socket.get(), hello);
      if (hello.pid() != pid || fds.size() != 1) fail(Errc::protocol, "this is no holder of process {}", pid);
      UniqueFd holder(static_cast<int>(::syscall(SYS_pidfd_open, hello.holder(), 0)));
      if (!holder) fail(Errc::peer_lost, "the holder of process {} has ended", pid);
      return Client(std::move(socket), std::move(holder), std::move(fds[0]));
    } catch (const Error& e) {
      if (e.errc() != Errc::peer_lost) throw;
    }
  }
  return std::nullopt;
}

Client Client::find_or_start(pid_t pid) {
  if (auto client = find(pid)) return std::move(*client);
  // One command after the other: a socket that nobody listens on yet looks like one that nobody listens on any more.
  UniqueFd lock = take_lock(run_directory() / "starting.lock", start_within);
  if (!lock)
    throw Error(Errc::busy, fmt::format("another command has been starting a tracker for {} s", start_within.count()),
                "see whether it hangs, then try again");
  if (auto client = find(pid)) return std::move(*client);
  const sockaddr_un address = address_of(pid, proc::Reader(pid).stat().start_time);
  ::unlink(address.sun_path);  // of one that was killed
  UniqueFd listener(check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "make a socket"));
  check(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind {}",
        address.sun_path);
  check(::listen(listener.get(), 8), "listen on {}", address.sun_path);
  if (!started_by_agent(pid, listener.get()))
    start_detached({"holder", "-t", std::to_string(pid), "--control-fd", "3"}, listener.get());
  listener.reset();
  lock.reset();
  if (auto client = find(pid)) return std::move(*client);
  fail(Errc::internal, "the holder of the tracker of process {} did not start", pid);
}

void Client::run(const std::vector<std::string>& words, const RunAction& act, const std::function<void()>& recovered,
                 UniqueFd page_server) {
  std::optional<Error> failure;
  try {
    failure = converse(words, act, std::move(page_server));
  } catch (const Error& e) {
    if (e.errc() != Errc::peer_lost) throw;
    // Its socket is closed before its end is to be seen. While it lives, what stands in the journal is borrowed for
    // somebody else.
    if (!comes_to_its_end(holder_.get()))
      throw Error(Errc::busy, "the process that keeps the tracker does not hear this command, nor does it end",
                  "nothing was done; try again");
    Journal journal(std::move(journal_));
    recover(journal, "", true, finish_aio_look);
    recovered();
    throw Error(Errc::peer_lost, "the process that keeps the tracker has died; the dump did not finish",
                "the process runs on as before; the next dump is whole");
  }
  if (failure) throw *failure;
}

// What the holder says that it failed with; Errc::peer_lost is thrown for the holder's own end only.
std::optional<Error> Client::converse(const std::vector<std::string>& words, const RunAction& act,
                                      UniqueFd page_server) {
  Request request;
  for (const std::string& w : words) request.add_words(w);
  const UniqueFd here = open_file(".", O_RDONLY | O_DIRECTORY);
  std::vector<int> fds{here.get(), 1, 2};
  if (page_server) fds.push_back(page_server.get());
  try {
    send(socket_.get(), request, fds);
  } catch (const Error& e) {
    if (e.errc() != Errc::peer_lost) throw;  // it may have said why
  }
  page_server.reset();
  for (;;) {
    Reply reply;
    receive(socket_.get(), reply);
    if (reply.has_failure()) return to_error(reply.failure());
    if (!reply.has_step()) return std::nullopt;
    StepDone done;
    try {
      act(reply.step().action(), reply.step().pid());
      done.set_go_on(true);
    } catch (const Error& e) {
      done.mutable_failure()->set_code(std::string(name(e.errc())));
      done.mutable_failure()->set_message(e.message());
      done.mutable_failure()->set_hint(e.hint());
    }
    send(socket_.get(), done);
  }
}

}  // namespace godwit::engine::holder
