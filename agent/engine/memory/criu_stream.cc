#include "agent/engine/memory/criu_sink.h"

#include "common/base/error.h"

#include <algorithm>

namespace godwit::engine {

using pagewire::ObjectId;
using pagewire::Run;

namespace {

constexpr std::uint64_t end_of(const Run& r) { return r.address + r.pages * page_size; }

constexpr bool same_run(const Run& a, const Run& b) { return a.address == b.address && a.pages == b.pages; }

}  // namespace

CriuStream::CriuStream(CriuClient server, int directory, std::vector<pagewire::ObjectId> tags)
    : CriuSink(std::move(server), directory, std::move(tags)) {
  for (auto& frame : frames_) frame.resize(pagewire::max_payload);
}

// Sends what waits and ends at or before `address`.
void CriuStream::send_before(std::uint64_t address) {
  const auto stays = std::ranges::find_if(waiting_, [&](const Piece& p) { return end_of(p.run) > address; });
  for (auto p = waiting_.begin(); p != stays; ++p) {
    if (p->run.address < end_) fail(Errc::internal, "page {:#x} was sent already", p->run.address);
    end_ = end_of(p->run);
    sent_[object_].add(p->run.address, end_);
    if (p->bytes.empty())
      server_.add_zeros(p->run);
    else
      server_.add_pages(p->run, p->bytes);
  }
  server_.flush();
  waiting_.erase(waiting_.begin(), stays);
}

void CriuStream::open(ObjectId object) {
  if (object == object_) return;
  send_before(~0ull);
  if (!sent_.try_emplace(object).second) fail(Errc::internal, "object {:#x} was sent already", object);
  server_.open(object);
  object_ = object;
  end_ = 0;
}

std::uint64_t CriuStream::pages(ObjectId object, std::span<const Run> runs) {
  open(object);
  send_before(~0ull);  // the frame before, with all its zero pages
  last_frame_ = 1 - last_frame_;
  std::span<const std::byte> data(frames_[last_frame_]);
  for (const Run& r : runs) {
    waiting_.push_back({r, data.first(r.pages * page_size)});
    data = data.subspan(r.pages * page_size);
  }
  return next();
}

// They lie among the pages that wait, or behind them; zero pages ascend among themselves, and so nothing that waits
// below the first of them will get a neighbour any more.
std::uint64_t CriuStream::zero(ObjectId object, std::span<const Run> runs) {
  open(object);
  if (!runs.empty()) send_before(runs.front().address);
  for (const Run& r : runs) {
    const auto at = std::ranges::upper_bound(waiting_, r.address, {}, [](const Piece& p) { return p.run.address; });
    waiting_.insert(at, Piece{r, {}});
  }
  return next();
}

// What is there has to be what was sent: it cannot be taken back.
void CriuStream::finish_pages(const HeldPages& held) {
  send_before(~0ull);
  for (const auto& [object, pages] : held) {
    if (!sent_.contains(object)) open(object);  // an object without pages has a pagemap all the same
    const PageSet& sent = sent_[object];
    if (!std::ranges::equal(sent.runs(), pages->runs(), same_run))
      fail(Errc::internal, "object {:#x}: {} pages were sent, {} are there", object, sent.size(), pages->size());
  }
}

}  // namespace godwit::engine
