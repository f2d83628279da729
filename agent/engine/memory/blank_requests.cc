#include "agent/engine/memory/blank_requests.h"

#include "common/base/error.h"
#include "common/base/log.h"

#include <algorithm>
#include <span>

#include <sys/eventfd.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

constexpr std::uint32_t most_at_once = 2048;  // the list and the events have to fit into a batch

}  // namespace

BlankRequests::BlankRequests(RemoteSyscalls& remote, RemoteAddr scratch)
    : remote_(remote),
      scratch_(scratch),
      eventfd_(static_cast<int>(remote.call("make an eventfd", SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC))) {}

BlankRequests::~BlankRequests() {
  try {
    remote_.call("close an eventfd", SYS_close, eventfd_);
  } catch (const Error& e) {
    log::warn("aio.close", {{"pid", remote_.pid()}, {"error", e.what()}});
  }
}

BlankBatch::BlankBatch(const BlankRequests& requests, RemoteAddr context, std::uint32_t capacity, std::uint64_t number)
    : remote_(requests.remote_),
      batch_(requests.scratch_),
      context_(context),
      capacity_(capacity),
      at_once_(std::min(capacity, most_at_once)) {
  iocb request{};
  request.aio_data = number;
  request.aio_lio_opcode = IOCB_CMD_PREAD;
  request.aio_fildes = static_cast<std::uint32_t>(requests.eventfd_);
  request.aio_nbytes = sizeof(std::uint64_t);
  events_ = batch_.reserve(at_once_ * sizeof(io_event));
  request.aio_buf = raw(events_);
  request_ = batch_.put(request);
  const std::vector<std::uint64_t> list(at_once_, raw(request_));
  list_ = batch_.put_bytes(std::as_bytes(std::span(list)));
}

void BlankBatch::submit(std::uint32_t count) {
  for (; count > 0; count -= std::min(count, at_once_))
    submits_.push_back(
        batch_.attempt("submit AIO requests", SYS_io_submit, context_, std::min(count, at_once_), list_));
}

void BlankBatch::fetch() {
  for (std::uint32_t fetched = 0; fetched < capacity_; fetched += at_once_)
    fetches_.push_back(batch_.attempt("fetch AIO events", SYS_io_getevents, context_, 0, at_once_, events_, 0));
}

void BlankBatch::run() {
  remote_.run(batch_);
  check();
}

bool BlankBatch::run_disturbed() { return remote_.run_disturbed(batch_); }

void BlankBatch::check() const {
  for (const std::size_t call : submits_)
    if (batch_.result(call) != -EAGAIN)  // no room
      RemoteSyscalls::checked("submit AIO requests", batch_.result(call));
  for (const std::size_t call : fetches_)
    if (batch_.result(call) != -EINTR)  // there was none, and a signal was pending
      RemoteSyscalls::checked("fetch AIO events", batch_.result(call));
}

std::uint32_t BlankBatch::submitted(std::size_t first) const {
  std::uint32_t sum = 0;
  for (const std::size_t call : std::span(submits_).first(first))
    sum += static_cast<std::uint32_t>(std::max(batch_.result(call), 0l));
  return sum;
}

}  // namespace godwit::engine
