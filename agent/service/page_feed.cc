#include "agent/service/page_feed.h"

#include "common/base/log.h"

#include <algorithm>

namespace godwit::service {
namespace {

constexpr auto goodbye_limit = std::chrono::seconds(5);

}  // namespace

net::awaitable<void> PageFeed::connect(Context& context, api::Connect request, api::Options options) {
  const auto self = shared_from_this();
  transfer::PageClient::Options plan{.server = net::parse_address(request.pages_address()),
                                     .tls = context.tls,
                                     .node = request.destination_node(),
                                     .migration = request.id().migration(),
                                     .token = request.token(),
                                     .streams = options.streams() ? options.streams() : default_streams,
                                     .rate_limit = options.rate_limit()};
  const std::weak_ptr<PageFeed> weak = self;
  transfer::PageClient::Events events{
      .manifest = [self](std::string entries) { return self->send_manifest(std::move(entries)); },
      .stored =
          [weak](std::uint64_t sequence) {
            if (const auto feed = weak.lock()) feed->acknowledged(sequence);
          },
      .failed =
          [weak](Error error) {
            if (const auto feed = weak.lock()) feed->failed(std::move(error));
          }};
  client_ = co_await transfer::PageClient::connect(std::move(plan), job_->take_ring(), std::move(events));
  rate_ = context.rate->join(options.rate_limit(), [weak](std::uint64_t bytes_per_second) {
    const auto feed = weak.lock();
    if (feed && feed->client_) feed->client_->set_rate_limit(bytes_per_second);
  });
}

void PageFeed::set_rate(std::uint64_t bytes_per_second) {
  if (!rate_) fail(Errc::busy, "no pages are being sent");
  rate_->set_limit(bytes_per_second);
}

net::awaitable<void> PageFeed::send_manifest(std::string entries) {
  api::Envelope notice;
  fill(notice.mutable_manifest()->mutable_id(), key_);
  notice.mutable_manifest()->set_entries(std::move(entries));
  co_await peer_->post(std::move(notice));
}

void PageFeed::acknowledged(std::uint64_t sequence) {
  stored_ = sequence;
  stored_at_ = Clock::now();
  engine::Command command;
  command.mutable_acknowledged()->set_sequence(sequence);
  if (job_->alive()) job_->post(command);
  changed_.notify();
}

void PageFeed::failed(Error error) {
  problem_ = error;
  changed_.notify();
  const auto failed = std::move(failed_);
  failed_ = {};
  if (failed) failed(std::move(error));
}

net::awaitable<void> PageFeed::wait_stored(std::uint64_t sequence, Clock::duration limit, Clock::time_point until) {
  const auto self = shared_from_this();
  const auto begin = Clock::now();
  while (stored_ < sequence && !problem_) {
    if (Clock::now() >= until)
      fail(Errc::refused, "the destination has stored frame {} of {} when the pause is as long as it may be", stored_,
           sequence);
    const auto deadline = std::max(begin, moved()) + limit;
    if (Clock::now() >= deadline)
      fail(Errc::timed_out, "the destination has stored frame {} of {}, and nothing for {:.3g} s", stored_, sequence,
           std::chrono::duration<double>(limit).count());
    co_await changed_.wait_until(std::min(until, deadline));
  }
  if (stored_ < sequence) throw *problem_;
}

Clock::time_point PageFeed::moved() const {
  return client_ ? std::max(stored_at_, client_->held_back_until()) : stored_at_;
}

void PageFeed::cancel(const Error& why) {
  if (!problem_) problem_ = why;
  changed_.notify();
}

net::awaitable<void> PageFeed::finish() {
  const auto self = shared_from_this();
  failed_ = {};
  rate_.reset();
  if (!client_) co_return;
  try {
    co_await client_->finish(goodbye_limit);
  } catch (const Error& e) {
    log::debug("source.goodbye", {{"message", e.message()}});
  }
  client_.reset();
}

void PageFeed::abort() {
  failed_ = {};
  rate_.reset();
  client_.reset();
}

}  // namespace godwit::service
