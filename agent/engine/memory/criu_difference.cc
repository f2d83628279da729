#include "agent/engine/memory/criu_sink.h"

#include "agent/engine/memory/mapped_ends.h"
#include "common/base/check.h"

#include <memory>

#include <sys/mman.h>

namespace godwit::engine {

using pagewire::ObjectId;
using pagewire::Run;

namespace {

std::vector<PlannedRun> cut_plan(const std::vector<PlannedRun>& plan, std::uint64_t end) {
  std::vector<PlannedRun> parts;
  for (const PlannedRun& p : plan)
    for (const Run& r : cut_at(p.run, end)) {
      PlannedRun& part = parts.emplace_back(r, p.offset);
      if (part.offset) *part.offset += r.address - p.run.address;
    }
  return parts;
}

}  // namespace

CriuDifference::CriuDifference(CriuClient server, int directory, std::vector<pagewire::ObjectId> tags)
    : CriuSink(std::move(server), directory, std::move(tags)),
      frame_(pagewire::max_payload),
      spool_(check(::memfd_create("godwit-difference", MFD_CLOEXEC), "make memory for a difference")) {}

std::uint64_t CriuDifference::pages(ObjectId object, std::span<const Run> runs) {
  pwrite_all(spool_.get(), std::span(frame_).first(pagewire::pages_in(runs) * page_size), static_cast<off_t>(spooled_));
  for (const Run& r : runs) {
    places_[object].push_back({r, spooled_});
    spooled_ += r.pages * page_size;
  }
  return next();
}

void CriuDifference::send(ObjectId object, const std::vector<PlannedRun>& plan, std::span<const std::byte> spool) {
  const bool server_has_parent = server_.open(object);
  for (const PlannedRun& p : plan) {
    if (p.offset) {
      server_.add_pages(p.run, spool.subspan(*p.offset, p.run.pages * page_size));
    } else if (server_has_parent) {
      server_.add_hole(p.run);
    } else {
      throw Error(Errc::refused,
                  fmt::format("the page server's parent images do not have object {:#x}, of which this dump is only a "
                              "difference",
                              object),
                  "start it with --prev-images-dir, or dump without");
    }
  }
  server_.flush();
}

void CriuDifference::finish_pages(const HeldPages& held) {
  const std::size_t length = spooled_;
  const auto unmap = [&](void* p) { ::munmap(p, length); };
  std::unique_ptr<void, decltype(unmap)> mapped(nullptr, unmap);
  if (length > 0) {
    void* p = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, spool_.get(), 0);
    if (p == MAP_FAILED) throw syscall_error(errno, "map a difference");
    mapped.reset(p);
  }
  const std::span<const std::byte> spool(static_cast<const std::byte*>(mapped.get()), length);
  const MappedEnds ends(images());
  for (const auto& [object, pages] : held)
    send(object, cut_plan(plan_runs(std::move(places_[object]), *pages), ends.of(object)), spool);
}

}  // namespace godwit::engine
