// The source's page path as a migration sees it: frames go from the job's ring to the destination by themselves; the
// migration waits until a sequence has been stored there. On the executor's thread.
#pragma once

#include "agent/jobs/engine_job.h"
#include "agent/service/peer_link.h"
#include "agent/transfer/page_client.h"

#include <memory>
#include <optional>

namespace godwit::service {

class PageFeed : public std::enable_shared_from_this<PageFeed> {
 public:
  // `failed` is called once, for the page path only; the caller knows when the job or the peer fails.
  PageFeed(Context& context, std::shared_ptr<jobs::EngineJob> job, std::shared_ptr<PeerLink> peer, Key key,
           std::function<void(Error)> failed)
      : changed_(context.executor),
        job_(std::move(job)),
        peer_(std::move(peer)),
        key_(std::move(key)),
        failed_(std::move(failed)) {}

  net::awaitable<void> connect(Context& context, api::Connect request, api::Options options);

  // Throws what the page path failed with, timed_out when nothing has moved for so long, or refused after `until`.
  net::awaitable<void> wait_stored(std::uint64_t sequence, Clock::duration limit, Clock::time_point until);
  // When something was stored last, or when what a rate limit holds back may go.
  Clock::time_point moved() const;
  std::uint64_t stored() const { return stored_; }
  std::uint64_t sent_bytes() const { return client_ ? client_->counters().payload_bytes : 0; }

  void set_rate(std::uint64_t bytes_per_second);  // 0: no limit but the node's

  void cancel(const Error& why);  // ends waits
  net::awaitable<void> finish();  // goodbye to the page server
  void abort();

 private:
  net::awaitable<void> send_manifest(std::string entries);
  void acknowledged(std::uint64_t sequence);
  void failed(Error error);

  net::Signal changed_;
  std::shared_ptr<jobs::EngineJob> job_;
  std::shared_ptr<PeerLink> peer_;
  Key key_;
  std::function<void(Error)> failed_;
  std::unique_ptr<transfer::PageClient> client_;
  std::unique_ptr<NodeRate::Share> rate_;
  std::uint64_t stored_ = 0;
  Clock::time_point stored_at_{};
  std::optional<Error> problem_;
};

}  // namespace godwit::service
