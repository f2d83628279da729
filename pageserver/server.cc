#include "pageserver/server.h"

#include "common/base/log.h"
#include "common/net/within.h"

#include <algorithm>

namespace godwit::pageserver {

using namespace pagewire;
using net::awaitable;

namespace {

constexpr std::size_t max_sessions = 16;
constexpr auto hello_limit = std::chrono::seconds(5);
constexpr auto refusal_limit = std::chrono::seconds(2);

SessionOptions options_of(const Open& m) {
  SessionOptions o{
      .migration = m.migration(), .peer = m.peer(), .spool_limit = m.spool_limit(), .max_streams = m.max_streams()};
  if (m.token_sha256().size() != o.token_sha256.size())
    fail(Errc::invalid_argument, "session: the token's digest is not SHA-256");
  std::ranges::copy(m.token_sha256(), o.token_sha256.begin());
  return o;
}

awaitable<void> read_hello(std::shared_ptr<net::Connection> c,
                           std::shared_ptr<std::array<std::byte, sizeof(Hello)>> bytes) {
  co_await c->read_exact(*bytes);
}

// Nothing, with the reason, when the spool cannot take one more file: the peer is told, and may come again.
std::unique_ptr<Appender> make_file(Session& session, const ParsedHello& hello, Reason& reason) {
  try {
    return session.make_file(hello);
  } catch (const Error& e) {
    log::error("stream.no_file", {{"migration", hello.migration}, {"message", e.message()}});
    reason = e.errc() == Errc::no_space ? Reason::no_space : Reason::internal;
    return nullptr;
  }
}

awaitable<void> refuse_stream(std::shared_ptr<net::Connection> c, std::uint32_t stream, Reason reason) {
  const Answer answer{.kind = AnswerKind::refused, .reason = reason, .stream = stream};
  std::vector<net::Bytes> pieces{std::as_bytes(std::span(&answer, 1))};
  co_await c->write(std::move(pieces));
  co_await c->shutdown();
}

}  // namespace

Server::Server(net::Executor executor, Workers& workers, UniqueFd control, net::Listener& listener)
    : executor_(executor),
      workers_(workers),
      control_(executor, std::move(control)),
      listener_(listener),
      outbox_(executor, control_) {}

awaitable<void> Server::run() {
  listener_.start([this](net::Connection c) { return greet(std::move(c)); });
  FromServer hello;
  hello.mutable_listening()->set_address(net::to_string(listener_.endpoint()));
  outbox_.send(std::move(hello));
  while (auto packet = co_await control_.receive()) {
    ToServer message;
    if (!message.ParseFromString(packet->bytes)) fail(Errc::protocol, "the agent sent what is no message");
    handle(std::move(message), std::move(packet->fds));
  }
}

void Server::handle(ToServer message, std::vector<UniqueFd> fds) {
  switch (message.body_case()) {
    case ToServer::kOpen: try { return open(message.open(), std::move(fds));
      } catch (const Error& e) {
        return refuse(message.open().migration(), e);
      }
    case ToServer::kReleased: {
      const Released& r = message.released();
      if (const auto found = sessions_.find(r.migration()); found != sessions_.end())
        found->second->release(r.stream(), r.upto());
      return;
    }
    case ToServer::kClose: {
      const std::string migration = message.close().migration();
      if (const auto found = sessions_.find(migration); found != sessions_.end()) return found->second->close();
      FromServer answer;  // closing twice is harmless
      answer.mutable_closed()->set_migration(migration);
      return outbox_.send(std::move(answer));
    }
    case ToServer::BODY_NOT_SET: fail(Errc::protocol, "the agent sent an empty message");
  }
}

void Server::open(const Open& message, std::vector<UniqueFd> fds) {
  const std::string migration = message.migration();
  if (sessions_.contains(migration)) fail(Errc::already_exists, "there is a session for {}", migration);
  if (sessions_.size() >= max_sessions) fail(Errc::busy, "{} sessions are open", sessions_.size());
  if (fds.size() != 1) fail(Errc::invalid_argument, "session: {} descriptors", fds.size());
  SessionEvents events{
      .stored = [this, migration](std::uint32_t stream,
                                  std::uint64_t upto) { outbox_.stored(migration, stream, upto); },
      .ended =
          [this, migration](std::exception_ptr problem) {
            FromServer m;
            m.mutable_session_ended()->set_migration(migration);
            if (problem) {
              const Error e = net::to_error(problem);
              log::warn("session.failed",
                        {{"migration", migration}, {"code", name(e.errc())}, {"message", e.message()}});
              m.mutable_session_ended()->set_code(std::string(name(e.errc())));
              m.mutable_session_ended()->set_message(e.message());
            }
            outbox_.send(std::move(m));
          },
      .closed =
          [this, migration](Stream::Totals totals) {
            log::info("session.closed", {{"migration", migration}, {"bytes", totals.bytes}, {"frames", totals.frames}});
            FromServer m;
            m.mutable_closed()->set_migration(migration);
            m.mutable_closed()->set_bytes(totals.bytes);
            m.mutable_closed()->set_frames(totals.frames);
            outbox_.send(std::move(m));
            sessions_.erase(migration);
          }};
  sessions_[migration] =
      std::make_shared<Session>(executor_, workers_, options_of(message), std::move(fds[0]), std::move(events));
  log::info("session.opened",
            {{"migration", migration}, {"peer", message.peer()}, {"spool_limit", message.spool_limit()}});
  FromServer answer;
  answer.mutable_opened()->set_migration(migration);
  outbox_.send(std::move(answer));
}

void Server::refuse(const std::string& migration, const Error& error) {
  FromServer answer;
  answer.mutable_session_ended()->set_migration(migration);
  answer.mutable_session_ended()->set_code(std::string(name(error.errc())));
  answer.mutable_session_ended()->set_message(error.message());
  outbox_.send(std::move(answer));
}

awaitable<void> Server::greet(net::Connection accepted) {
  const auto connection = std::make_shared<net::Connection>(std::move(accepted));
  const auto bytes = std::make_shared<std::array<std::byte, sizeof(Hello)>>();
  awaitable<void> reading = read_hello(connection, bytes);
  co_await net::within(hello_limit, "wait for a hello", std::move(reading));
  const ParsedHello hello = parse_hello(*bytes);
  Reason reason = hello.reason;
  const auto found = sessions_.find(hello.migration);
  if (reason == Reason::none)
    reason = found == sessions_.end() ? Reason::denied : found->second->admit(hello, connection->peer());
  std::unique_ptr<Appender> file;
  if (reason == Reason::none) file = make_file(*found->second, hello, reason);
  if (file) co_return found->second->adopt(hello.stream, std::move(file), std::move(*connection));
  log::warn("stream.refused", {{"peer", net::to_string(connection->peer())},
                               {"address", connection->address()},
                               {"reason", std::to_underlying(reason)}});
  awaitable<void> refusing = refuse_stream(connection, hello.stream, reason);
  co_await net::within(refusal_limit, "refuse a stream", std::move(refusing));
}

}  // namespace godwit::pageserver
