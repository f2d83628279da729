#include "pageserver/session/session.h"

#include <boost/asio/post.hpp>

#include <algorithm>

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

namespace godwit::pageserver {

using pagewire::Reason;

namespace {

// A quota must hold whole frames, or a frame that is never complete is never released.
constexpr std::uint64_t least_quota = 4 * pagewire::max_payload;

void check_options(const SessionOptions& o, int directory) {
  if (o.migration.empty() || o.migration.size() > pagewire::max_migration_name)
    fail(Errc::invalid_argument, "session: bad migration id");
  if (o.peer.empty()) fail(Errc::invalid_argument, "session: no peer is named");
  if (o.max_streams == 0 || o.max_streams > pagewire::max_streams)
    fail(Errc::invalid_argument, "session: {} streams, at most {}", o.max_streams, pagewire::max_streams);
  if (o.spool_limit / o.max_streams < least_quota)
    fail(Errc::invalid_argument, "session: a spool of {} bytes is too small for {} streams", o.spool_limit,
         o.max_streams);
  struct stat status{};
  check(::fstat(directory, &status), "look at the spool directory");
  if (!S_ISDIR(status.st_mode)) fail(Errc::invalid_argument, "session: the spool is no directory");
}

}  // namespace

Session::Session(net::Executor main, Workers& workers, SessionOptions options, UniqueFd directory, SessionEvents events)
    : main_(std::move(main)),
      workers_(workers),
      options_(std::move(options)),
      directory_(std::move(directory)),
      events_(std::move(events)) {
  check_options(options_, directory_.get());
}

Reason Session::admit(const pagewire::ParsedHello& hello, const net::Identity& peer) {
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest;
  ::SHA256(hello.token.data(), hello.token.size(), digest.data());
  const bool token_fits = CRYPTO_memcmp(digest.data(), options_.token_sha256.data(), digest.size()) == 0;
  if (!token_fits || peer.role != "agent" || peer.name != options_.peer) return Reason::denied;
  if (closing_ || ended_) return Reason::closed;
  if (hello.streams > options_.max_streams || (announced_ != 0 && hello.streams != announced_)) return Reason::protocol;
  if (taken_.contains(hello.stream)) return Reason::stream_taken;
  return Reason::none;
}

std::uint64_t Session::window_of_a_stream() const {
  return pagewire::spool_window(options_.spool_limit, options_.max_streams);
}

std::unique_ptr<Appender> Session::make_file(const pagewire::ParsedHello& hello) {
  auto file = create_appender(directory_.get(), "stream-" + std::to_string(hello.stream), window_of_a_stream());
  taken_.insert(hello.stream);
  announced_ = hello.streams;
  return file;
}

void Session::adopt(std::uint32_t number, std::unique_ptr<Appender> file, net::Connection connection) {
  const std::uint64_t window = window_of_a_stream();
  // Called on the stream's worker; whatever follows happens on the main thread.
  const auto self = shared_from_this();
  Stream::Events events{
      .stored =
          [self, number](std::uint64_t upto) {
            net::asio::post(self->main_, [self, number, upto] { self->events_.stored(number, upto); });
          },
      .ended =
          [self, number](Stream::Totals totals, std::exception_ptr problem) {
            net::asio::post(self->main_,
                            [self, number, totals, problem] { self->end_stream(number, totals, problem); });
          }};
  const net::Executor executor = workers_.next();
  auto stream = std::make_shared<Stream>(number, window, std::move(connection).move_to(executor), std::move(file),
                                         std::move(events));
  running_.emplace(number, Running{executor, stream});
  net::asio::post(executor, [stream] { stream->start(); });
}

void Session::release(std::uint32_t number, std::uint64_t upto) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;  // it has gone since
  net::asio::post(found->second.executor, [stream = found->second.stream, upto] { stream->release(upto); });
}

void Session::end_stream(std::uint32_t number, Stream::Totals totals, std::exception_ptr problem) {
  running_.erase(number);
  totals_.bytes += totals.bytes;
  totals_.frames += totals.frames;
  if (!problem) ++goodbyes_;
  if (!ended_ && !closing_ && (problem || goodbyes_ == announced_)) {
    ended_ = true;
    events_.ended(problem);
    stop_streams();  // a migration with a stream missing cannot go on
  }
  if (closing_ && running_.empty()) events_.closed(totals_);
}

void Session::close() {
  if (closing_) return;
  closing_ = true;
  directory_.reset();
  stop_streams();
  if (running_.empty()) events_.closed(totals_);
}

void Session::stop_streams() {
  for (auto& [number, r] : running_) net::asio::post(r.executor, [stream = r.stream] { stream->stop(); });
}

}  // namespace godwit::pageserver
