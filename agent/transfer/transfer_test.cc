// The whole page path on this machine: ring, PageClient, TLS on loopback, a real page server, a real spool.
#include "agent/transfer/page_client.h"
#include "agent/transfer/spool.h"
#include "agent/transfer/test_page_server.h"
#include "common/net/test_loop.h"
#include "common/net/within.h"
#include "common/pagewire/wire.h"
#include "tests/support/test_certs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <thread>

namespace godwit::transfer {
namespace {

using namespace std::chrono_literals;
using namespace pagewire;
using net::awaitable;

const std::string token(32, 'T');
constexpr std::uint64_t seed = 42;

RingFds duplicate(const RingFds& fds) {
  const auto dup = [](const UniqueFd& fd) { return UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0), "dup")); };
  return {dup(fds.memory), dup(fds.data), dup(fds.space)};
}

// Stands for the engine: frames of all kinds, with content that follows from the sequence.
void emit(Ring& ring, std::uint64_t sequence) {
  FrameHeader h{.kind = FrameKind::pages, .sequence = sequence, .object = object_id(ObjectType::task, 7)};
  std::string trailer, payload;
  const auto add_run = [&](std::uint64_t pages) {
    const pagewire::Run run{sequence << 20, pages};
    trailer.append(reinterpret_cast<const char*>(&run), sizeof run);
    h.runs = 1;
  };
  if (sequence % 7 == 0) {
    h.kind = FrameKind::zero;
    add_run(5);
  } else if (sequence % 11 == 0) {
    h.kind = FrameKind::file;
    h.object = 0;
    trailer = "core-7.img";
    h.name_length = static_cast<std::uint16_t>(trailer.size());
    payload.assign(sequence * 13 % 5000, static_cast<char>(sequence));
  } else {
    add_run(1 + sequence % 64);
    payload.assign((1 + sequence % 64) * page_size, static_cast<char>(sequence));
  }
  h.payload_length = static_cast<std::uint32_t>(payload.size());
  const auto bytes = [](const std::string& s) { return std::as_bytes(std::span(s)); };
  h.checksum = checksum(seed, h, bytes(trailer), bytes(payload));
  const auto space = ring.reserve(frame_length(h), 20s);
  std::memcpy(space.data(), &h, sizeof h);
  std::memcpy(space.data() + sizeof h, trailer.data(), trailer.size());
  std::memcpy(space.data() + sizeof h + trailer.size(), payload.data(), payload.size());
  ring.commit(frame_length(h));
}

class TransferTest : public testing::Test {
 protected:
  test::TestCerts certs;
  net::asio::io_context io{1};
  net::TlsContext source_tls = net::TlsContext::load(certs.node("spiffe://godwit/agent/source"));
  TestPageServer server{io.get_executor(), PAGESERVER, certs.node("spiffe://godwit/agent/destination")};
  RingFds ring_fds = make_ring(4 << 20);
  Ring engine{duplicate(ring_fds)};
  UniqueFd spool;
  net::Address address;
  std::vector<ManifestEntry> manifest;
  std::uint64_t stored = 0;
  std::optional<Error> failure;
  std::unique_ptr<PageClient> client;
  std::map<std::uint32_t, std::uint64_t> announced;  // Stored messages, by stream
  std::optional<pageserver::SessionEnded> ended;
  std::optional<pageserver::Closed> closed;
  bool release = true;  // as the destination's engine does

  // What has been freed is free: the server's sanitizer would keep it, and it would count as what the server keeps.
  static void SetUpTestSuite() {
    ::setenv("ASAN_OPTIONS", "quarantine_size_mb=1:thread_local_quarantine_size_kb=64", 1);
  }
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root for the spool";
    const passwd* nobody = ::getpwnam("nobody");
    spool = make_spool(room(), 4, nobody->pw_uid, nobody->pw_gid);
    net::run_to_end(io, start());
  }
  void TearDown() override {
    client.reset();
    if (server.control) server.control->close();
  }
  virtual std::uint64_t limit() const { return 160 << 20; }  // nothing is written over
  virtual std::uint64_t room() const { return limit(); }     // of the tmpfs

  awaitable<void> start() {
    const auto listening = co_await server.hear();
    address = net::parse_address(listening->listening().address());
    UniqueFd copy(check(::fcntl(spool.get(), F_DUPFD_CLOEXEC, 0), "dup"));
    co_await server.open("m1", token, "source", limit(), std::move(copy));
    const auto opened = co_await server.hear();
    EXPECT_TRUE(opened->has_opened()) << opened->ShortDebugString();
    net::spawn(io.get_executor(), "control", listen());
  }
  awaitable<void> listen() {
    while (const auto m = co_await server.hear()) {
      if (m->has_stored()) {
        EXPECT_GE(m->stored().upto(), announced[m->stored().stream()]);
        announced[m->stored().stream()] = m->stored().upto();
        if (release) co_await release_upto(m->stored().stream(), m->stored().upto());
      }
      if (m->has_session_ended()) ended = m->session_ended();
      if (m->has_closed()) closed = m->closed();
    }
  }
  awaitable<void> release_upto(std::uint32_t stream, std::uint64_t upto) {
    pageserver::ToServer m;
    m.mutable_released()->set_migration("m1");
    m.mutable_released()->set_stream(stream);
    m.mutable_released()->set_upto(upto);
    co_await server.say(std::move(m));
  }
  awaitable<void> close_session() {
    pageserver::ToServer m;
    m.mutable_close()->set_migration("m1");
    co_await server.say(std::move(m));
    while (!closed) co_await net::sleep_for(1ms);
  }

  awaitable<void> wait_ended() {
    while (!ended) co_await net::sleep_for(1ms);
  }

  PageClient::Options options(unsigned streams) {
    return {.server = address,
            .tls = source_tls,
            .node = "destination",
            .migration = "m1",
            .token = token,
            .streams = streams};
  }
  PageClient::Events events() {
    return {.manifest = [this](std::string entries) { return take_manifest(std::move(entries)); },
            .stored = [this](std::uint64_t sequence) { stored = sequence; },
            .failed = [this](Error e) { failure = std::move(e); }};
  }
  awaitable<void> take_manifest(std::string entries) {
    for (ManifestEntry& e : parse_manifest(entries)) manifest.push_back(std::move(e));
    co_return;
  }
  awaitable<void> connect(PageClient::Options o) {
    client = co_await PageClient::connect(std::move(o), duplicate(ring_fds), events());
  }
  awaitable<void> expect_refusal(PageClient::Options o, Errc code) {
    EXPECT_EQ(co_await net::code_of(connect(std::move(o))), code);
  }
  awaitable<void> wait_stored(std::uint64_t sequence) {
    while (stored < sequence && !failure) co_await net::sleep_for(1ms);
  }
  awaitable<void> wait_failure() {
    while (!failure) co_await net::sleep_for(1ms);
  }
  awaitable<void> finish() { co_await client->finish(5s); }

  // Every payload lies where the manifest says, and fits its checksum.
  void expect_spool_complete(std::uint64_t frames) {
    ASSERT_EQ(manifest.size(), frames);
    std::uint64_t expected = 1;
    for (const ManifestEntry& e : manifest) {
      ASSERT_EQ(e.header.sequence, expected++);
      const UniqueFd file = open_at(spool.get(), "stream-" + std::to_string(e.header.stream), O_RDONLY);
      std::vector<std::byte> payload(e.header.payload_length);
      pread_exact(file.get(), payload, static_cast<off_t>(e.offset));
      const auto trailer = e.name.empty() ? std::as_bytes(std::span(e.runs)) : std::as_bytes(std::span(e.name));
      ASSERT_EQ(checksum(seed, e.header, trailer, payload), e.header.checksum) << e.header.sequence;
      EXPECT_EQ(e.offset % page_size, 0u);
    }
  }
  std::uint64_t spool_bytes() {
    std::uint64_t sum = 0;
    for (int i = 0; i < 4; ++i) {
      struct stat status{};
      if (::fstatat(spool.get(), ("stream-" + std::to_string(i)).c_str(), &status, 0) == 0)
        sum += static_cast<std::uint64_t>(status.st_size);
    }
    return sum;
  }

  void move_frames(unsigned streams, std::uint64_t count) {
    net::run_to_end(io, connect(options(streams)));
    std::thread producer([&] {
      for (std::uint64_t i = 1; i <= count; ++i) emit(engine, i);
    });
    net::run_to_end(io, wait_stored(count));
    producer.join();
    ASSERT_FALSE(failure) << failure->message();
    ASSERT_EQ(stored, count);
  }
};

TEST_F(TransferTest, carries_every_frame_to_the_place_that_the_manifest_names) {
  move_frames(2, 400);
  expect_spool_complete(400);
  EXPECT_EQ(client->counters().frames, 400u);
  EXPECT_EQ(client->counters().stored_sequence, 400u);
  net::run_to_end(io, finish());
  net::run_to_end(io, wait_ended());
  net::run_to_end(io, close_session());
  EXPECT_EQ(closed->frames(), 400u);
  EXPECT_EQ(closed->bytes(), spool_bytes());
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code(), "");
  EXPECT_FALSE(failure);
}

TEST_F(TransferTest, works_with_one_stream_and_with_four) {
  move_frames(4, 100);
  expect_spool_complete(100);
}

TEST_F(TransferTest, refuses_a_wrong_token) {
  auto o = options(1);
  o.token = std::string(32, 'X');
  net::run_to_end(io, expect_refusal(o, Errc::denied));
  o.token = "short";
  net::run_to_end(io, expect_refusal(o, Errc::invalid_argument));
}

TEST_F(TransferTest, refuses_another_node_and_an_unknown_migration) {
  auto o = options(1);
  o.tls = net::TlsContext::load(certs.node("spiffe://godwit/agent/other"));
  net::run_to_end(io, expect_refusal(o, Errc::denied));
  o.tls = net::TlsContext::load(certs.node("spiffe://godwit/operator/source"));
  net::run_to_end(io, expect_refusal(o, Errc::denied));
  o = options(1);
  o.migration = "m2";
  net::run_to_end(io, expect_refusal(o, Errc::denied));
}

TEST_F(TransferTest, refuses_a_certificate_of_another_authority) {
  test::TestCerts others;
  auto o = options(1);
  o.tls = net::TlsContext::load(others.node("spiffe://godwit/agent/source"));
  net::run_to_end(io, expect_refusal(o, Errc::denied));
}

TEST_F(TransferTest, does_not_trust_a_page_server_of_another_node) {
  auto o = options(1);
  o.node = "elsewhere";
  net::run_to_end(io, expect_refusal(o, Errc::denied));
}

TEST_F(TransferTest, accepts_every_stream_only_once) {
  net::run_to_end(io, connect(options(2)));
  const auto first = std::move(client);
  net::run_to_end(io, expect_refusal(options(2), Errc::denied));
}

awaitable<std::shared_ptr<net::Connection>> open_by_hand(net::Address address, net::TlsContext tls) {
  net::Connection made = co_await net::connect(address, tls, 5s);
  const auto c = std::make_shared<net::Connection>(std::move(made));
  const std::vector<std::uint8_t> bytes(token.begin(), token.end());
  const Hello hello = make_hello("m1", bytes, 0, 1);
  std::vector<net::Bytes> pieces{std::as_bytes(std::span(&hello, 1))};
  co_await c->write(std::move(pieces));
  std::array<std::byte, sizeof(Answer)> answer;
  co_await c->read_exact(answer);
  EXPECT_EQ(parse_answer(answer).kind, AnswerKind::welcome);
  co_return c;
}

awaitable<void> send_and_read_failure(net::Address address, net::TlsContext tls, std::string bytes) {
  const auto c = co_await open_by_hand(address, tls);
  std::string more = bytes + std::string(1 << 20, 'x');
  co_await c->write(more);
  std::array<std::byte, sizeof(Answer)> answer;
  co_await c->read_exact(answer);
  EXPECT_EQ(parse_answer(answer).kind, AnswerKind::failed);
  EXPECT_EQ(parse_answer(answer).reason, Reason::protocol);
}

TEST_F(TransferTest, ends_the_session_when_a_frame_lies_about_its_length) {
  FrameHeader h{.kind = FrameKind::file, .sequence = 1, .payload_length = 0xffff'ffff, .name_length = 1};
  net::run_to_end(io,
                  send_and_read_failure(address, source_tls, std::string(reinterpret_cast<const char*>(&h), sizeof h)));
  net::run_to_end(io, wait_ended());
  net::run_to_end(io, close_session());
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code(), "protocol");
  EXPECT_EQ(spool_bytes(), 0u);
}

awaitable<void> leave_in_the_middle(net::Address address, net::TlsContext tls) {
  const auto c = co_await open_by_hand(address, tls);
  FrameHeader h{.kind = FrameKind::file, .sequence = 1, .payload_length = 1000, .name_length = 1};
  std::vector<net::Bytes> pieces{std::as_bytes(std::span(&h, 1))};
  co_await c->write(std::move(pieces));
  co_await c->shutdown();
  std::array<std::byte, sizeof(Answer)> answer;
  co_await c->read_exact(answer);
  EXPECT_EQ(parse_answer(answer).reason, Reason::protocol);
}

TEST_F(TransferTest, does_not_take_a_goodbye_in_the_middle_of_a_frame) {
  net::run_to_end(io, leave_in_the_middle(address, source_tls));
  net::run_to_end(io, wait_ended());
  net::run_to_end(io, close_session());
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code(), "protocol");
}

std::string frame_bytes(FrameHeader h, const std::string& trailer, const std::string& payload = {}) {
  h.payload_length = static_cast<std::uint32_t>(payload.size());
  const auto bytes = [](const std::string& s) { return std::as_bytes(std::span(s)); };
  h.checksum = checksum(seed, h, bytes(trailer), bytes(payload));
  return std::string(reinterpret_cast<const char*>(&h), sizeof h) + trailer + payload;
}

std::string runs_of_one_page(std::size_t count) {
  std::string trailer;
  for (std::size_t i = 0; i < count; ++i) {
    const pagewire::Run run{(2 * i + 1) << 20, 1};
    trailer.append(reinterpret_cast<const char*>(&run), sizeof run);
  }
  return trailer;
}

// As many runs as a frame may have, none of which can be sent with another.
std::string scattered_pages(std::uint64_t sequence) {
  const FrameHeader h{
      .kind = FrameKind::pages, .runs = 64, .sequence = sequence, .object = object_id(ObjectType::task, 7)};
  return frame_bytes(h, runs_of_one_page(64), std::string(64 * page_size, 's'));
}

std::string without_payload(FrameKind kind, std::uint64_t sequence) {
  FrameHeader h{.kind = kind, .sequence = sequence, .object = object_id(ObjectType::task, 7)};
  if (kind == FrameKind::round) {
    h.object = 0;
    return frame_bytes(h, {});
  }
  h.runs = 64;
  return frame_bytes(h, runs_of_one_page(64));
}

// Until the server has said that it has stored everything up to `sequence`.
awaitable<void> read_answers(std::shared_ptr<net::Connection> c, std::uint64_t sequence) {
  std::array<std::byte, sizeof(Answer)> answer;
  do {
    co_await c->read_exact(answer);
    EXPECT_EQ(parse_answer(answer).kind, AnswerKind::stored);
  } while (parse_answer(answer).sequence < sequence);
}

awaitable<void> trickle(net::Address address, net::TlsContext tls) {
  const auto c = co_await open_by_hand(address, tls);
  const std::string bytes =
      frame_bytes({.kind = FrameKind::pages, .runs = 1, .sequence = 1, .object = object_id(ObjectType::task, 7)},
                  runs_of_one_page(1), std::string(page_size, 't'));
  for (const char byte : bytes.substr(0, 200)) {
    co_await c->write(std::string_view(&byte, 1));
    co_await net::sleep_for(1ms);
  }
  co_await c->write(std::string_view(bytes).substr(200));
  co_await read_answers(c, 1);
}

TEST_F(TransferTest, takes_a_frame_that_trickles_in) {
  net::run_to_end(io, trickle(address, source_tls));
  EXPECT_EQ(spool_bytes(), page_size);
}

awaitable<void> send_small(net::Address address, net::TlsContext tls, std::uint64_t frames) {
  const auto c = co_await open_by_hand(address, tls);
  std::uint64_t sequence = 0;
  for (; sequence < frames; ++sequence)
    co_await c->write(without_payload(sequence % 2 ? FrameKind::zero : FrameKind::drop, sequence + 1));
  co_await c->write(scattered_pages(++sequence));
  co_await read_answers(c, sequence);
}

std::uint64_t resident_kib(pid_t pid) {
  const std::string status = read_file("/proc/" + std::to_string(pid) + "/status");
  return std::stoull(status.substr(status.find("VmRSS:") + 6));
}

TEST_F(TransferTest, keeps_nothing_of_frames_that_bring_nothing) {
  net::run_to_end(io, send_small(address, source_tls, 100));
  net::run_to_end(io, wait_ended());
  const std::uint64_t before = resident_kib(server.pid());
  net::run_to_end(io, close_session());
  ended.reset();
  closed.reset();
  check(::unlinkat(spool.get(), "stream-0", 0), "make room for the next session's");
  UniqueFd copy(check(::fcntl(spool.get(), F_DUPFD_CLOEXEC, 0), "dup"));
  net::run_to_end(io, server.open("m1", token, "source", limit(), std::move(copy)));
  net::run_to_end(io, send_small(address, source_tls, 50'000));  // 50 MiB of them
  EXPECT_EQ(spool_bytes(), 64 * page_size);
  EXPECT_LT(resident_kib(server.pid()), before + 16 * 1024);
}

awaitable<void> never_read(net::Address address, net::TlsContext tls, std::shared_ptr<net::Connection>* kept) {
  const auto c = *kept = co_await open_by_hand(address, tls);
  std::string rounds;
  for (std::uint64_t sequence = 1;; ++sequence) {  // each of them is answered
    rounds += without_payload(FrameKind::round, sequence);
    if (rounds.size() < 64 * 1024) continue;
    co_await c->write(rounds);
    rounds.clear();
  }
}

// Once its answers fill the buffers between, the server waits for it, and not for ever.
TEST_F(TransferTest, gives_up_on_a_peer_that_does_not_read_its_answers) {
  std::shared_ptr<net::Connection> kept;
  net::spawn(io.get_executor(), "writer", never_read(address, source_tls, &kept));
  net::run_to_end(io, wait_ended(), 60s);
  EXPECT_EQ(ended->code(), "timed_out") << ended->message();
  EXPECT_EQ(spool_bytes(), 0u);
}

TEST_F(TransferTest, has_so_many_sessions_and_no_more) {
  const auto open = [this](std::string migration) -> awaitable<void> {
    UniqueFd copy(check(::fcntl(spool.get(), F_DUPFD_CLOEXEC, 0), "dup"));
    co_await server.open(migration, token, "source", limit(), std::move(copy));
  };
  for (int i = 2; i <= 16; ++i) net::run_to_end(io, open("m" + std::to_string(i)));
  net::run_to_end(io, net::sleep_for(100ms));
  EXPECT_FALSE(ended);
  net::run_to_end(io, open("m17"));
  net::run_to_end(io, wait_ended());
  EXPECT_EQ(ended->migration(), "m17");
  EXPECT_EQ(ended->code(), "busy");
  move_frames(2, 50);  // the others are none the worse
  expect_spool_complete(50);
}

TEST_F(TransferTest, notices_that_the_page_server_has_been_killed) {
  move_frames(2, 50);
  server.kill();
  net::run_to_end(io, wait_failure());
  EXPECT_EQ(failure->errc(), Errc::peer_lost);
}

TEST_F(TransferTest, ends_when_the_session_is_closed_under_it) {
  move_frames(2, 50);
  net::run_to_end(io, close_session());
  net::run_to_end(io, wait_failure());
  EXPECT_EQ(failure->errc(), Errc::peer_lost);
}

TEST_F(TransferTest, ends_with_its_agent) {
  server.control->close();
  EXPECT_TRUE(server.ended_well());
}

TEST_F(TransferTest, keeps_to_a_rate_that_can_be_changed) {
  auto o = options(1);
  o.rate_limit = 1 << 20;
  net::run_to_end(io, connect(o));
  for (std::uint64_t i = 1; i <= 20; ++i) emit(engine, i);
  net::run_to_end(io, net::sleep_for(100ms));
  EXPECT_LT(stored, 20u);
  client->set_rate_limit(0);
  net::run_to_end(io, wait_stored(20));
  expect_spool_complete(20);
}

TEST_F(TransferTest, gives_the_page_server_nothing_but_its_job) {
  const std::string status = read_file("/proc/" + std::to_string(server.pid()) + "/status");
  const std::string nobody = std::to_string(::getpwnam("nobody")->pw_uid);
  EXPECT_THAT(status, testing::HasSubstr("Uid:\t" + nobody + "\t" + nobody + "\t" + nobody));
  for (const char* line : {"Groups:\t \n", "NoNewPrivs:\t1", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
                           "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000"})
    EXPECT_THAT(status, testing::HasSubstr(line));
}

TEST_F(TransferTest, says_that_the_spool_takes_no_more_files_and_takes_them_when_it_does) {
  std::vector<std::string> fillers;
  for (int fd = 0; fd >= 0; fillers.push_back("filler-" + std::to_string(fillers.size()))) {
    fd =
        ::openat(spool.get(), ("filler-" + std::to_string(fillers.size())).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
  }
  net::run_to_end(io, expect_refusal(options(2), Errc::no_space));
  for (const std::string& filler : fillers) ::unlinkat(spool.get(), filler.c_str(), 0);
  move_frames(2, 50);
  expect_spool_complete(50);
}

// Peers that connect and say nothing: some before the handshake, some behind it.
class Flood : public TransferTest {
 protected:
  std::vector<UniqueFd> strangers;
  std::vector<std::shared_ptr<net::Connection>> silent;

  void dial() {
    sockaddr_in at{.sin_family = AF_INET,
                   .sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.port))),
                   .sin_addr = {},
                   .sin_zero = {}};
    check(::inet_pton(AF_INET, address.host.c_str(), &at.sin_addr), "read an address");
    UniqueFd socket(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "make a socket"));
    check(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "connect");
    strangers.push_back(std::move(socket));
  }
  awaitable<void> be_silent(int count) {
    for (int i = 0; i < count; ++i) {
      net::Connection made = co_await net::connect(address, source_tls, 5s);
      silent.push_back(std::make_shared<net::Connection>(std::move(made)));
    }
  }
  // Until the page server hangs up.
  awaitable<void> outlast(std::shared_ptr<net::Connection> connection) {
    std::array<std::byte, 1> byte;
    co_await net::code_of(read_all(connection, byte));
  }
  static awaitable<void> read_all(std::shared_ptr<net::Connection> c, std::span<std::byte> into) {
    while (co_await c->read_some(into) > 0) {
    }
  }
};

TEST_F(Flood, of_silent_peers_does_not_keep_a_session_from_its_streams) {
  for (int i = 0; i < 200; ++i) dial();
  net::run_to_end(io, be_silent(20));
  move_frames(4, 200);  // opened and filled in the middle of it
  expect_spool_complete(200);
  for (int i = 0; i < 200; ++i) dial();
  emit(engine, 201);
  net::run_to_end(io, wait_stored(201));
  EXPECT_FALSE(failure);
}

// With a certificate of the authority, each renewed when it is hung up on.
TEST_F(Flood, of_silent_nodes_does_not_keep_a_session_from_its_streams) {
  net::run_to_end(io, be_silent(80));
  move_frames(4, 200);
  expect_spool_complete(200);
  net::run_to_end(io, be_silent(80));
  emit(engine, 201);
  net::run_to_end(io, wait_stored(201));
  EXPECT_FALSE(failure);
}

TEST_F(Flood, ends_by_itself) {
  dial();
  net::run_to_end(io, be_silent(2));
  const auto began = Clock::now();
  for (const auto& c : silent) net::run_to_end(io, outlast(c));
  EXPECT_LT(Clock::now() - began, 7s) << "a hello may take 5 s";
  pollfd hung_up{.fd = strangers.front().get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&hung_up, 1, 7000), 1) << "and so may a handshake";
  move_frames(1, 10);
}

class SmallSpool : public TransferTest {
 protected:
  std::uint64_t limit() const override { return 4 << 20; }

  awaitable<void> release_until(std::uint64_t sequence) {
    while (stored < sequence && !failure) {
      for (const std::uint32_t stream : {0, 1}) co_await release_upto(stream, announced[stream]);
      co_await net::sleep_for(1ms);
    }
  }
};

TEST_F(SmallSpool, stops_reading_when_nothing_is_released_and_goes_on_when_it_is) {
  release = false;
  net::run_to_end(io, connect(options(2)));
  std::thread producer([&] {
    for (std::uint64_t i = 1; i <= 800; ++i) emit(engine, i);  // about 100 MiB
  });
  net::run_to_end(io, net::sleep_for(1500ms));
  const std::uint64_t first = spool_bytes();
  EXPECT_LE(first, limit());
  EXPECT_GE(first, limit() / 2);
  net::run_to_end(io, net::sleep_for(200ms));
  EXPECT_EQ(spool_bytes(), first);
  EXPECT_LT(stored, 800u);
  net::run_to_end(io, release_until(800));
  producer.join();
  EXPECT_EQ(stored, 800u);
  EXPECT_EQ(spool_bytes(), first);  // the same memory again and again
  EXPECT_FALSE(failure);
}

TEST_F(SmallSpool, gives_up_when_nothing_moves_for_too_long) {
  release = false;
  auto o = options(1);
  o.stall_limit = 300ms;
  net::run_to_end(io, connect(o));
  std::thread producer([&] {
    for (std::uint64_t i = 1; i <= 30; ++i) emit(engine, i);  // about 4 MiB: spool and ring together hold them
  });
  net::run_to_end(io, wait_failure());
  producer.join();
  EXPECT_EQ(failure->errc(), Errc::timed_out);
}

class FullSpool : public TransferTest {
  std::uint64_t room() const override { return limit() / 8; }
};

TEST_F(FullSpool, is_told_to_both_sides) {
  net::run_to_end(io, connect(options(2)));
  std::thread producer([&] {
    try {
      for (std::uint64_t i = 1; i <= 2000; ++i) emit(engine, i);
    } catch (const Error&) {
    }
  });
  net::run_to_end(io, wait_failure());
  EXPECT_EQ(failure->errc(), Errc::no_space);
  net::run_to_end(io, wait_ended());
  net::run_to_end(io, close_session());
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code(), "no_space");
  // Let the producer go: nobody takes its frames any more.
  Ring drain(duplicate(ring_fds));
  std::thread drainer([&] {
    for (int idle = 0; idle < 200; ++idle, ::usleep(1000))
      for (; drain.front(); idle = 0) drain.release();
  });
  producer.join();
  drainer.join();
}

}  // namespace
}  // namespace godwit::transfer
