// A page server's peers that are no PageClient: by hand, with frames that lie, trickle or bring nothing, and many that
// say nothing at all.
#include "agent/transfer/transfer_fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

namespace godwit::transfer {
namespace {

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

}  // namespace
}  // namespace godwit::transfer
