#include "pageserver/session/stream.h"

#include "common/base/buffer.h"
#include "common/net/within.h"

#include <algorithm>

namespace godwit::pageserver {

using namespace pagewire;
using net::awaitable;

namespace {

// Decrypted into, written from: small enough to stay in the second-level cache between the two.
constexpr std::size_t buffer_size = 256 * 1024;
constexpr std::uint64_t report_step = 1024 * 1024;
constexpr auto lull = std::chrono::milliseconds(1);      // nothing for so long: then the client may be waiting for us
constexpr auto answer_limit = std::chrono::seconds(30);  // for a client that does not read its answers
constexpr auto complaint_limit = std::chrono::seconds(2);

}  // namespace

Stream::Stream(std::uint32_t number, std::uint64_t quota, net::Connection connection, std::unique_ptr<Appender> file,
               Events events)
    : number_(number),
      quota_(quota),
      connection_(std::move(connection)),
      file_(std::move(file)),
      events_(std::move(events)),
      splitter_(number),
      room_(connection_.executor()) {}

void Stream::start() {
  auto work = run();
  net::spawn(connection_.executor(), std::move(work),
             [self = shared_from_this()](std::exception_ptr problem) { self->end(problem); });
}

void Stream::release(std::uint64_t upto) {
  released_ = std::clamp(upto, released_, appended_);
  room_.notify();
}

void Stream::stop() {
  stopped_ = true;
  connection_.close();
  room_.notify();
}

void Stream::end(std::exception_ptr problem) {
  connection_.close();
  events_.ended({.bytes = file_->stored(), .frames = splitter_.frames()}, problem);
}

awaitable<void> Stream::run() {
  std::exception_ptr problem;
  try {
    connection_.fit_buffers();
    co_await tell(AnswerKind::welcome, Reason::none);
    co_await receive();
    file_->settle();
    co_await report();
    co_await connection_.shutdown();
  } catch (...) {
    problem = std::current_exception();
  }
  if (!problem) co_return;
  co_await complain(net::to_error(problem).errc());
  std::rethrow_exception(problem);
}

awaitable<void> Stream::receive() {
  Buffer buffer(buffer_size);
  while (const std::size_t n = co_await connection_.read_some(buffer)) {
    co_await store(std::span(buffer).first(n));
    // In a steady flow one answer for every MiB is enough.
    if (has_news() && !co_await connection_.readable_within(lull)) co_await report();
  }
  if (!splitter_.between_frames()) fail(Errc::protocol, "the peer said goodbye in the middle of a frame");
}

awaitable<void> Stream::store(std::span<const std::byte> bytes) {
  std::vector<Piece> pieces;
  while (!bytes.empty()) {
    const std::uint64_t used = appended_ - released_;
    const std::uint64_t allowance = used < quota_ ? quota_ - used : 0;
    pieces.clear();
    const std::size_t consumed = splitter_.take(bytes, allowance, pieces);
    bytes = bytes.subspan(consumed);
    file_->append(pieces);
    for (const Piece& piece : pieces) appended_ += piece.size();
    if (splitter_.round_ended() || appended_ - reported_ >= report_step) co_await report();
    if (consumed > 0) continue;
    co_await report();
    while (!stopped_ && appended_ - released_ >= quota_) co_await room_.wait();
    if (stopped_) fail(Errc::cancelled, "the session has been closed");
  }
}

bool Stream::has_news() const { return file_->stored() > reported_ || splitter_.sequence() > reported_sequence_; }

// What is stored, to the session's owner and to the client. Nothing is said twice.
awaitable<void> Stream::report() {
  file_->settle();
  const std::uint64_t stored = file_->stored();
  if (stored > reported_) events_.stored(stored);
  const bool news = has_news();
  reported_ = stored;
  reported_sequence_ = splitter_.sequence();
  if (news) co_await tell(AnswerKind::stored, Reason::none);
}

awaitable<void> Stream::tell(AnswerKind kind, Reason reason) {
  const Answer answer{
      .kind = kind, .reason = reason, .stream = number_, .sequence = splitter_.sequence(), .bytes = file_->stored()};
  std::vector<net::Bytes> pieces{std::as_bytes(std::span(&answer, 1))};
  awaitable<void> writing = connection_.write(std::move(pieces));
  co_await net::within(answer_limit, "tell the client what is stored", std::move(writing));
}

// Closing with bytes unread would reset the connection, and the client might never see the answer.
awaitable<void> Stream::tell_and_linger(Reason reason) {
  co_await tell(AnswerKind::failed, reason);
  co_await connection_.shutdown();
  std::vector<std::byte> discarded(64 * 1024);
  while (co_await connection_.read_some(discarded) > 0) {
  }
}

// The client deserves a reason; when it cannot be told, it will see the connection end.
awaitable<void> Stream::complain(Errc code) {
  if (stopped_ || code == Errc::peer_lost) co_return;
  try {
    awaitable<void> telling = tell_and_linger(reason_of(code));
    co_await net::within(complaint_limit, std::move(telling));
  } catch (...) {
    co_return;
  }
}

}  // namespace godwit::pageserver
