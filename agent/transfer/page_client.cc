#include "agent/transfer/page_client.h"

#include "agent/transfer/in_flight.h"
#include "common/base/fault.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <cstring>

namespace godwit::transfer {

using namespace pagewire;
using net::awaitable;

namespace {

// In a steady flow the other side hears of 2 MiB at a time: every announcement passes through four processes. A round's
// end is announced at once, and so is everything when no more frames come for a moment.
constexpr std::uint64_t announced_bytes = 2u << 20;
constexpr std::size_t longest_manifest = 64 * 1024;
constexpr auto lull = std::chrono::milliseconds(1);

UniqueFd duplicate(int fd) { return UniqueFd(check(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "duplicate a descriptor")); }

}  // namespace

struct PageClient::State {
  Ring ring;
  Events events;
  net::asio::posix::stream_descriptor data;  // readable: the engine has put something into the ring
  net::asio::steady_timer patience;          // with frames that have not come
  std::vector<std::unique_ptr<PageStream>> streams;
  std::vector<std::uint64_t> ends;  // of the streams' spool files, as far as handed out
  InFlight unwritten, unstored;
  RateLimit rate;
  Clock::time_point free_at{};  // when the rate limit lets the next frame go
  std::string manifest;
  std::uint64_t unannounced = 0;         // bytes of frames in `manifest`
  std::uint64_t announced_sequence = 0;  // handed to events.manifest, and everything before
  std::uint64_t told_sequence = 0;       // by events.stored
  Counters counters;
  Clock::duration stall_limit;
  Clock::time_point progress = Clock::now();  // when something was stored, or nothing was under way
  bool ended = false, idle = false;
  net::Signal changed;

  State(net::Executor executor, RingFds fds, Events ev, const Options& o)
      : ring(std::move(fds)),
        events(std::move(ev)),
        data(executor, duplicate(ring.data_fd()).release()),
        patience(executor),
        ends(o.streams),
        unwritten(o.streams),
        unstored(o.streams),
        rate(o.rate_limit, Clock::now()),
        stall_limit(o.stall_limit),
        changed(executor) {}

  void end() {
    ended = true;
    boost::system::error_code ignored;
    data.close(ignored);
    changed.notify();
  }
  void fail(Error error) {
    if (ended) return;
    end();
    events.failed(std::move(error));
  }
  void written(std::uint32_t stream, std::uint64_t sequence) {
    unwritten.done(stream, sequence);
    while (unwritten.take_first()) ring.release();
  }
  void stored(std::uint32_t stream, std::uint64_t sequence) {
    if (ended) return;
    if (!unstored.done(stream, sequence))
      return fail(Error(Errc::protocol, "the page server has stored what was not sent"));
    while (const auto first = unstored.take_first()) counters.stored_sequence = *first;
    progress = Clock::now();
    tell_stored();
  }
  void tell_stored() {
    const std::uint64_t sequence = std::min(counters.stored_sequence, announced_sequence);
    if (sequence <= told_sequence) return;
    told_sequence = sequence;
    events.stored(sequence);
  }
};

namespace {

using Shared = std::shared_ptr<PageClient::State>;

std::uint32_t least_loaded(const Shared& s) {
  std::uint32_t best = 0;
  for (std::uint32_t i = 1; i < s->streams.size(); ++i)
    if (s->streams[i]->queued_bytes() < s->streams[best]->queued_bytes()) best = i;
  return best;
}

void send(const Shared& s, std::span<const std::byte> record) {
  FrameHeader header = parse_header(record);
  if (frame_length(header) != record.size())
    fail(Errc::protocol, "frame {} of {} bytes in a record of {}", header.sequence, frame_length(header),
         record.size());
  if (header.sequence <= s->counters.sent_sequence)
    fail(Errc::protocol, "the engine emits frame {} after frame {}", header.sequence, s->counters.sent_sequence);
  const std::uint32_t stream = header.stream = least_loaded(s);
  const std::uint64_t offset = s->ends[stream];
  s->ends[stream] = next_offset(offset + header.payload_length);
  if (s->unstored.empty()) s->progress = Clock::now();
  s->unwritten.add(stream, header.sequence);
  s->unstored.add(stream, header.sequence);
  append_manifest(s->manifest, header, record.subspan(sizeof header, trailer_length(header)), offset);
  s->streams[stream]->send(header, record.subspan(sizeof header));
  s->unannounced += record.size();
  if (header.kind == FrameKind::round) s->unannounced = announced_bytes;
  ++s->counters.frames;
  s->counters.payload_bytes += header.payload_length;
  s->counters.sent_sequence = header.sequence;
}

awaitable<void> flush_manifest(Shared s) {
  if (s->manifest.empty()) co_return;
  std::string entries = std::move(s->manifest);
  s->manifest.clear();
  s->unannounced = 0;
  const std::uint64_t sequence = s->counters.sent_sequence;
  co_await s->events.manifest(std::move(entries));
  s->announced_sequence = sequence;
  if (!s->ended) s->tell_stored();
}

// False: none came within the limit.
awaitable<bool> frames_within(Shared s, Clock::duration limit) {
  s->patience.expires_after(limit);
  s->patience.async_wait([s](boost::system::error_code cancelled) {
    boost::system::error_code ignored;
    if (!cancelled) s->data.cancel(ignored);
  });
  const auto [failed] = co_await s->data.async_wait(net::asio::posix::stream_descriptor::wait_read,
                                                    net::asio::as_tuple(net::asio::use_awaitable));
  s->patience.cancel();
  std::uint64_t count;
  if (!s->ended) std::ignore = ::read(s->data.native_handle(), &count, sizeof count);
  co_return !failed;
}

awaitable<void> wait_for_frames(Shared s) {
  constexpr auto for_ever = std::chrono::hours(24);
  s->idle = true;
  s->changed.notify();
  co_await frames_within(s, for_ever);
  s->idle = false;
}

bool worth_announcing(const Shared& s) {
  return s->unannounced >= announced_bytes || s->manifest.size() >= longest_manifest;
}

awaitable<void> pump(Shared s) {
  while (!s->ended) {
    const auto record = s->ring.next();
    if (!record) {
      // The ring is looked at again after every wait: one that was too short may have taken the signal all the same.
      if (s->manifest.empty())
        co_await wait_for_frames(s);
      else if (!co_await frames_within(s, lull))
        co_await flush_manifest(s);
      continue;
    }
    fault::point("agent.transfer.frame");
    if (Clock::now() < s->free_at) co_await flush_manifest(s);
    while (!s->ended && Clock::now() < s->free_at) co_await s->changed.wait_until(s->free_at);
    if (s->ended) break;
    send(s, *record);
    s->free_at = s->rate.spend(record->size(), Clock::now());
    if (worth_announcing(s)) co_await flush_manifest(s);
  }
}

awaitable<void> watch(Shared s) {
  while (!s->ended) {
    if (!s->unstored.empty() && Clock::now() - s->progress > s->stall_limit)
      fail(Errc::timed_out, "the page server has stored nothing for {:.3g} s",
           std::chrono::duration<double>(s->stall_limit).count());
    co_await s->changed.wait_until(Clock::now() + s->stall_limit / 8);
  }
}

void run(const Shared& s, awaitable<void> loop) {
  net::spawn(s->data.get_executor(), std::move(loop), [s](std::exception_ptr problem) {
    if (problem) s->fail(net::to_error(problem));
  });
}

PageStream::Events events_of(const Shared& s, std::uint32_t stream) {
  const std::weak_ptr<PageClient::State> weak = s;
  return {.written =
              [weak, stream](std::uint64_t sequence) {
                if (const Shared state = weak.lock()) state->written(stream, sequence);
              },
          .stored =
              [weak, stream](std::uint64_t sequence, std::uint64_t) {
                if (const Shared state = weak.lock()) state->stored(stream, sequence);
              },
          .failed =
              [weak](Error error) {
                if (const Shared state = weak.lock()) state->fail(std::move(error));
              }};
}

}  // namespace

awaitable<std::unique_ptr<PageClient>> PageClient::connect(Options options, RingFds ring, Events events) {
  const net::Executor executor = co_await net::asio::this_coro::executor;
  if (options.streams == 0 || options.streams > max_streams)
    fail(Errc::invalid_argument, "{} page streams, at most {}", options.streams, max_streams);
  const auto state = std::make_shared<State>(executor, std::move(ring), std::move(events), options);
  auto client = std::make_unique<PageClient>(state);
  const std::span token(reinterpret_cast<const std::uint8_t*>(options.token.data()), options.token.size());
  for (std::uint32_t i = 0; i < options.streams; ++i) {
    StreamTarget target{.address = options.server,
                        .tls = options.tls,
                        .node = options.node,
                        .hello = make_hello(options.migration, token, i, options.streams)};
    state->streams.push_back(std::make_unique<PageStream>(executor, events_of(state, i)));
    co_await state->streams.back()->open(std::move(target));
  }
  run(state, pump(state));
  run(state, watch(state));
  co_return client;
}

PageClient::~PageClient() {
  state_->end();
  state_->streams.clear();
}

void PageClient::set_rate_limit(std::uint64_t bytes_per_second) {
  state_->free_at = state_->rate.set(bytes_per_second, Clock::now());
  state_->changed.notify();
}

Clock::time_point PageClient::held_back_until() const { return state_->free_at; }

PageClient::Counters PageClient::counters() const { return state_->counters; }

namespace {

awaitable<void> finish_all(Shared s, Clock::duration limit) {
  const auto deadline = Clock::now() + limit;
  while (!s->ended && !(s->idle && s->unwritten.empty()))
    if (!co_await s->changed.wait_until(std::min(deadline, Clock::now() + std::chrono::milliseconds(5))) &&
        Clock::now() >= deadline)
      fail(Errc::timed_out, "not everything could be sent within {:.3g} s",
           std::chrono::duration<double>(limit).count());
  if (s->ended) fail(Errc::peer_lost, "the page streams have failed");
  // They may be gone after each wait.
  for (std::size_t i = 0; !s->ended && i < s->streams.size(); i++)
    co_await s->streams[i]->finish(deadline - Clock::now());
  if (s->ended) fail(Errc::peer_lost, "the page streams have failed");
  s->end();
}

}  // namespace

awaitable<void> PageClient::finish(Clock::duration limit) { return finish_all(state_, limit); }

}  // namespace godwit::transfer
