// The whole page path on this machine: ring, PageClient, TLS on loopback, a real page server, a real spool.
#pragma once

#include "agent/transfer/page_client.h"
#include "agent/transfer/spool.h"
#include "agent/transfer/test_page_server.h"
#include "common/net/test_loop.h"
#include "common/net/within.h"
#include "common/pagewire/wire.h"
#include "tests/support/test_certs.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

namespace godwit::transfer {

extern const char* const page_server_program;

using namespace std::chrono_literals;
using namespace pagewire;
using net::awaitable;

inline const std::string token(32, 'T');
inline constexpr std::uint64_t seed = 42;

inline RingFds duplicate(const RingFds& fds) {
  const auto dup = [](const UniqueFd& fd) { return UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0), "dup")); };
  return {dup(fds.memory), dup(fds.data), dup(fds.space)};
}

// Stands for the engine: frames of all kinds, with content that follows from the sequence.
inline void emit(Ring& ring, std::uint64_t sequence) {
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
  TestPageServer server{io.get_executor(), page_server_program, certs.node("spiffe://godwit/agent/destination")};
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

}  // namespace godwit::transfer
