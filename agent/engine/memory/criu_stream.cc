#include "agent/engine/memory/criu_sink.h"

#include "common/base/error.h"

#include <algorithm>

namespace godwit::engine {

using pagewire::ObjectId;
using pagewire::Run;

namespace {

constexpr bool same_run(const Run& a, const Run& b) { return a.address == b.address && a.pages == b.pages; }

}  // namespace

CriuStream::CriuStream(CriuClient server, int directory, std::vector<pagewire::ObjectId> tags)
    : CriuSink(std::move(server), directory, std::move(tags)) {}

void CriuStream::open(ObjectId object) {
  if (object == object_) return;
  if (!sent_.try_emplace(object).second) fail(Errc::internal, "object {:#x} was sent already", object);
  server_.open(object);
  object_ = object;
  end_ = 0;
}

std::uint64_t CriuStream::pages(ObjectId object, std::span<const Run> runs) {
  open(object);
  std::span<const std::byte> data = server_.frame();
  for (const Run& r : runs) {
    if (r.address < end_) fail(Errc::internal, "page {:#x} was sent already", r.address);
    end_ = r.address + r.pages * page_size;
    sent_[object].add(r.address, end_);
    server_.add_pages(r, data.first(r.pages * page_size));
    data = data.subspan(r.pages * page_size);
  }
  server_.flush();
  return next();
}

// What is there has to be what was sent: it cannot be taken back.
void CriuStream::finish_pages(const HeldPages& held) {
  for (const auto& [object, pages] : held) {
    if (!sent_.contains(object)) open(object);  // an object without pages has a pagemap all the same
    const PageSet& sent = sent_[object];
    if (!std::ranges::equal(sent.runs(), pages->runs(), same_run))
      fail(Errc::internal, "object {:#x}: {} pages were sent, {} are there", object, sent.size(), pages->size());
  }
}

}  // namespace godwit::engine
