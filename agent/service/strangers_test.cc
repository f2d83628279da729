// Who is not who he says, and messages that are none: on the channel between agents, and to a coordinator that is no
// one.
#include "agent/service/coordinator_link.h"
#include "agent/service/test_migration.h"
#include "agent/service/version.h"
#include "common/net/listener.h"
#include "common/pagewire/wire.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using net::awaitable;
using testing::HasSubstr;

class Strangers : public MigrationTest {
 protected:
  net::TlsContext tls_of(const std::string& who) {
    return net::TlsContext::load(pair.certs().node("spiffe://godwit/" + who));
  }
  static awaitable<void> ask_peer(net::TlsContext tls, std::string address, api::Envelope request,
                                  api::Envelope* answer) {
    net::Connection connection = co_await net::connect(net::parse_address(address), std::move(tls), 5s);
    const auto channel = net::Channel::start(std::move(connection), {});
    *answer = co_await channel->ask(std::move(request), 5s);
    channel->close();
  }
  static awaitable<void> say(net::TlsContext tls, std::string address, std::string bytes, bool* hung_up) {
    net::Connection connection = co_await net::connect(net::parse_address(address), std::move(tls), 5s);
    co_await connection.write({std::as_bytes(std::span(bytes))});
    std::vector<std::byte> answer(64);
    try {
      while (co_await connection.read_some(answer) > 0) {
      }
    } catch (const Error&) {
    }
    *hung_up = true;
  }

  // What b's agent tells somebody with this certificate, on the channel between agents.
  std::string told(const std::string& who, api::Envelope request) {
    return error_of([&] {
      api::Envelope answer;
      pair.run(a, ask_peer(tls_of(who), b.agent->context().peer_address, std::move(request), &answer));
    });
  }
  api::Envelope hello(const std::string& node, std::uint32_t version = control_version) {
    api::Envelope request;
    request.mutable_peer_hello()->set_version(version);
    request.mutable_peer_hello()->set_node(node);
    *request.mutable_peer_hello()->mutable_id() = id;
    request.mutable_peer_hello()->set_commit_hash(std::string(32, 'h'));
    return request;
  }
};

TEST_F(Strangers, with_another_role_are_no_peers) {
  identify("roles");
  for (const char* who : {"operator/a", "coordinator"})
    EXPECT_THAT(told(who, hello("a")), testing::StartsWith("peer_lost")) << who << " was not hung up on";
}

TEST_F(Strangers, may_not_speak_for_another_node) {
  identify("names");
  EXPECT_THAT(told("agent/z", hello("a")), HasSubstr("denied: the peer's certificate says agent/z, expected agent/a"));
}

TEST_F(Strangers, may_not_touch_a_migration_between_others) {
  run_workload();
  identify("others");
  prepare(survey());
  EXPECT_THAT(told("agent/z", hello("z")), HasSubstr("denied: the peer's certificate says agent/z, expected agent/a"));
  for (const auto set : {+[](api::Envelope& e) { return e.mutable_query()->mutable_id(); },
                         +[](api::Envelope& e) { return e.mutable_refuse()->mutable_id(); },
                         +[](api::Envelope& e) { return e.mutable_settled()->mutable_id(); }}) {
    api::Envelope request;
    *set(request) = id;
    EXPECT_THAT(told("agent/z", std::move(request)), HasSubstr("denied"));
  }
  EXPECT_EQ(destination(), DestinationPhase::building);
}

// Questions, and what only one that has begun could make something of.
awaitable<void> speak_of_many(net::TlsContext tls, std::string address, int migrations, int* answered) {
  net::Connection connection = co_await net::connect(net::parse_address(address), std::move(tls), 5s);
  const auto channel = net::Channel::start(std::move(connection), {});
  for (int i = 0; i < migrations; ++i) {
    api::MigrationId id;
    id.set_migration(fmt::format("none-{}", i));
    id.set_epoch(1);
    api::Envelope query, hello, manifest;
    *query.mutable_query()->mutable_id() = id;
    const api::Envelope there = co_await channel->ask(std::move(query), 5s);
    *answered += there.destination_state().phase() == api::DESTINATION_NONE;
    hello.mutable_peer_hello()->set_version(control_version);
    hello.mutable_peer_hello()->set_node("a");
    *hello.mutable_peer_hello()->mutable_id() = id;
    hello.mutable_peer_hello()->set_commit_hash(std::string(32, 'h'));
    hello.mutable_peer_hello()->set_relay_key(std::string(32, 'k'));
    *manifest.mutable_manifest()->mutable_id() = id;
    co_await channel->post(std::move(manifest));
    const api::Envelope welcome = co_await channel->ask(std::move(hello), 5s);
    *answered += welcome.destination_state().phase() == api::DESTINATION_NONE;
  }
  channel->close();
}

TEST_F(Strangers, that_speak_of_migrations_that_nobody_has_begun_are_answered_and_leave_nothing) {
  const std::size_t before = b.agent->migrations().kept();
  int answered = 0;
  pair.run(a, speak_of_many(tls_of("agent/a"), b.agent->context().peer_address, 20, &answered));
  EXPECT_EQ(answered, 40);
  for (const bool to_source : {false, true}) {
    identify("none-relayed");
    EXPECT_THAT(error_of([&] {
                  ask(b, [&](api::Envelope& e) {
                    *e.mutable_relay()->mutable_id() = id;
                    e.mutable_relay()->set_to_source(to_source);
                  });
                }),
                HasSubstr("denied: nothing can be relayed"));
  }
  EXPECT_EQ(b.agent->migrations().kept(), before);
  EXPECT_TRUE(b.records().all().empty());
}

TEST_F(Strangers, of_another_version_are_told_so) {
  identify("versions");
  EXPECT_THAT(told("agent/a", hello("a", 99)), HasSubstr("protocol: the source's agent speaks version 99"));
}

TEST_F(Strangers, are_not_answered_what_only_a_coordinator_may_ask) {
  identify("orders");
  api::Envelope commit, kill, run;
  *commit.mutable_commit()->mutable_id() = id;
  *kill.mutable_kill_source()->mutable_id() = id;
  run.mutable_run_workload()->set_name("evil");
  for (api::Envelope* request : {&commit, &kill, &run})
    EXPECT_THAT(told("agent/a", *request), HasSubstr("unsupported: an agent does not answer this to another"));
  EXPECT_EQ(b.workloads().find("evil"), nullptr);
}

TEST_F(Strangers, that_send_what_is_no_message_are_hung_up_on) {
  identify("garbage");
  const std::string huge("\xff\xff\xff\x7f", 4), nothing("\0\0\0\0", 4), nonsense("\x04\0\0\0\xff\xff\xff\xff", 8);
  for (const std::string& bytes : {huge, nothing, nonsense}) {
    bool hung_up = false;
    pair.run(a, say(tls_of("agent/a"), b.agent->context().peer_address, bytes, &hung_up));
    EXPECT_TRUE(hung_up);
  }
  run_workload();
  commit(arm_all());  // and the agent goes on
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

// The first half of a frame's header, and then nothing. Returns what the page server has said first, once it hangs up.
awaitable<void> stop_in_a_frame(net::TlsContext tls, api::Prepared prepared, std::string migration,
                                pagewire::AnswerKind* first) {
  net::Connection made = co_await net::connect(net::parse_address(prepared.pages_address()), std::move(tls), 5s);
  const auto connection = std::make_shared<net::Connection>(std::move(made));
  const std::vector<std::uint8_t> token(prepared.token().begin(), prepared.token().end());
  const pagewire::Hello hello = pagewire::make_hello(migration, token, 0, 1);
  const pagewire::FrameHeader frame{.kind = pagewire::FrameKind::round, .sequence = 1};
  std::vector<net::Bytes> pieces{std::as_bytes(std::span(&hello, 1)), std::as_bytes(std::span(&frame, 1)).first(24)};
  co_await connection->write(std::move(pieces));
  std::array<std::byte, sizeof(pagewire::Answer)> answer;
  co_await connection->read_exact(answer);
  *first = pagewire::parse_answer(answer).kind;
  try {
    while (co_await connection->read_some(answer) > 0) {
    }
  } catch (const Error&) {
  }
}

TEST_F(Strangers, that_stop_in_the_middle_of_a_frame_have_a_session_as_long_as_the_agent_waits_for_them) {
  run_workload();
  identify("half");
  b.agent->context().options.limits.idle = 1500ms;
  const api::Prepared prepared = prepare(survey());
  const auto began = Clock::now();
  pagewire::AnswerKind first{};
  pair.run(a, stop_in_a_frame(tls_of("agent/a"), prepared, "half", &first));
  EXPECT_EQ(first, pagewire::AnswerKind::welcome);
  EXPECT_GE(Clock::now() - began, 1s) << "it was not for what it said";
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  identify("next", 2);
  commit(arm_all());
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

TEST_F(Strangers, cannot_commit_with_the_token_of_another_migration) {
  const pid_t root = run_workload();
  identify("first", 1);
  a.refuse_after(600ms);
  const std::string first = arm_all();
  EXPECT_TRUE(becomes(SourcePhase::thawed)) << "nobody commits, so it ends in a refusal";
  EXPECT_THAT(error_of([&] { commit(first); }), HasSubstr("refused")) << "its own time is over";
  expect_running_at_the_source_only(root);
  identify("second", 2);
  a.refuse_after(60s);
  const auto finished = prepare_all();
  EXPECT_THAT(error_of([&] { commit(first); }), HasSubstr("denied: the commit token is wrong"));
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  commit(arm(finished));
}

// A coordinator that is none, or of another version.
class FalseCoordinator : public Strangers {
 protected:
  // Whether the agent stays with it.
  bool is_stayed_with(const std::string& who, std::uint32_t version) {
    version_ = version;
    meet(who, [this](net::Connection c) { return serve(this, std::move(c)); });
    return stayed_;
  }
  // Whether it hangs up on one that says this.
  bool is_left_for(const std::string& bytes) {
    meet("coordinator", [this, bytes](net::Connection c) { return speak(this, std::move(c), bytes); });
    return ended_;
  }
  int registrations() const { return asked_; }

 private:
  void meet(const std::string& who, std::function<awaitable<void>(net::Connection)> serve) {
    asked_ = 0;
    stayed_ = ended_ = false;
    net::Listener listener(a.io->get_executor(), "coordinator", {"127.0.0.1", "0"}, tls_of(who));
    listener.start(std::move(serve));
    a.agent->context().options.coordinator = net::to_string(listener.endpoint());
    const auto link = std::make_shared<CoordinatorLink>(a.agent->context(), a.agent->migrations());
    net::spawn(a.io->get_executor(), "link", run(link));
    EXPECT_TRUE(pair.turn_until([this] { return ended_; }));
    listener.close();
    link->stop();
    pair.turn_until([&] { return link.use_count() == 1; }, 2s);
  }
  static awaitable<void> speak(FalseCoordinator* self, net::Connection connection, std::string bytes) {
    co_await connection.write({std::as_bytes(std::span(bytes))});
    std::vector<std::byte> said(4096);
    try {
      while (co_await connection.read_some(said) > 0) {
      }
    } catch (const Error&) {
    }
    self->ended_ = true;
  }
  static awaitable<void> run(std::shared_ptr<CoordinatorLink> link) { co_await link->run(); }
  static awaitable<void> serve(FalseCoordinator* self, net::Connection connection) {
    net::Channel::Handlers handlers;
    handlers.request = [self](api::Envelope) { return registered(self); };
    const auto channel = net::Channel::start(std::move(connection), std::move(handlers));
    const auto deadline = Clock::now() + 500ms;
    while (channel->is_open() && Clock::now() < deadline) co_await net::sleep_for(5ms);
    self->stayed_ = channel->is_open();
    channel->close();
    self->ended_ = true;
  }
  static awaitable<api::Envelope> registered(FalseCoordinator* self) {
    self->asked_++;
    api::Envelope reply;
    reply.mutable_registered()->set_version(self->version_);
    co_return reply;
  }

  std::uint32_t version_ = control_version;
  int asked_ = 0;
  bool stayed_ = false, ended_ = false;
};

TEST_F(FalseCoordinator, is_left_at_once) {
  EXPECT_TRUE(is_stayed_with("coordinator", control_version)) << "a true one, or the rest proves nothing";
  EXPECT_EQ(registrations(), 1);
  EXPECT_FALSE(is_stayed_with("coordinator", 99)) << "another version";
  EXPECT_EQ(registrations(), 1);
  for (const char* who : {"agent/z", "operator/ann"}) {
    EXPECT_FALSE(is_stayed_with(who, control_version));
    EXPECT_EQ(registrations(), 0) << who << " was told what this node has";
  }
}

TEST_F(FalseCoordinator, that_sends_what_is_no_message_is_left) {
  const std::string huge("\xff\xff\xff\x7f", 4), nothing("\0\0\0\0", 4), nonsense("\x04\0\0\0\xff\xff\xff\xff", 8);
  for (const std::string& bytes : {huge, nothing, nonsense}) EXPECT_TRUE(is_left_for(bytes));
  EXPECT_TRUE(is_stayed_with("coordinator", control_version)) << "and the agent goes on";
}

TEST_F(Strangers, cannot_announce_frames_for_streams_or_places_that_are_none) {
  run_workload();
  identify("places");
  prepare(survey());
  const auto announced = [&](std::uint32_t stream, std::uint64_t offset) {
    pagewire::FrameHeader header{.kind = pagewire::FrameKind::pages, .runs = 1, .sequence = 1, .object = 0x701};
    header.payload_length = page_size;
    header.stream = stream;
    const pagewire::Run run{page_size, 1};
    std::string entries;
    pagewire::append_manifest(entries, header, std::as_bytes(std::span(&run, 1)), offset);
    return error_of([&] { pair.run(b, b.agent->migrations().destination(id)->manifest(entries)); });
  };
  EXPECT_THAT(announced(1'000'000, 0), testing::StartsWith("protocol"));
  EXPECT_THAT(announced(0, ~std::uint64_t{0} - 100), testing::StartsWith("protocol"));
  EXPECT_THAT(announced(0, std::uint64_t{1} << 50), testing::StartsWith("protocol"));
  discard();
}

}  // namespace
}  // namespace godwit::service
