#include "agent/engine/memory/shared_memory.h"

#include "common/base/buffer.h"
#include "common/base/check.h"

#include <xxhash.h>

#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <sys/stat.h>

namespace godwit::engine {
namespace {

// Hands out pages of a piece that has already been read: what is hashed must be what is sent.
class PieceReader : public PageReader {
 public:
  void set(std::uint64_t start, std::span<const std::byte> piece) {
    start_ = start;
    piece_ = piece;
  }
  void read(std::vector<pagewire::Run>& runs, std::span<std::byte> into) override {
    for (const pagewire::Run& r : runs) {
      std::memcpy(into.data(), piece_.data() + (r.address - start_), r.pages * page_size);
      into = into.subspan(r.pages * page_size);
    }
  }

 private:
  std::uint64_t start_ = 0;
  std::span<const std::byte> piece_;
};

}  // namespace

SharedSegment::SharedSegment(std::uint64_t shmid, UniqueFd fd) : shmid_(shmid), fd_(std::move(fd)) {}

bool SharedSegment::round(PageSink& sink, Debt& debt, EmitCount& total, std::uint64_t most) {
  struct stat st{};
  check(::fstat(fd_.get(), &st), "stat shared memory {}", shmid_);
  const std::uint64_t end = page_up(static_cast<std::uint64_t>(st.st_size));
  FileReader file(fd_.get());
  PieceReader piece;
  PageEmitter emitter(pagewire::object_id(pagewire::ObjectType::shmem, shmid_), piece, sink, sent_, &debt);
  Buffer chunk(pagewire::max_payload);

  std::uint64_t at = 0;
  while (at < end) {
    // Holes of a tmpfs file are pages that were never written or have been punched.
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno != ENXIO) check(data, "find data in shared memory {}", shmid_);
    const std::uint64_t next = data < 0 ? end : page_down(static_cast<std::uint64_t>(data));
    emitter.drop(at, next);
    if (next >= end) break;
    const off_t found = ::lseek(fd_.get(), static_cast<off_t>(next), SEEK_HOLE);
    if (found < 0 && errno == ENXIO) break;  // shortened since: the next round tells
    check(found, "find a hole in shared memory {}", shmid_);
    const std::uint64_t hole = page_up(static_cast<std::uint64_t>(found));
    for (std::uint64_t start = next; start < hole; start += chunk.size()) {
      std::vector<pagewire::Run> run{{start, std::min<std::uint64_t>(hole - start, chunk.size()) / page_size}};
      file.read(run, chunk);
      piece.set(start, chunk);
      try {
        send_changed(run[0], chunk, emitter);
      } catch (const TooSlow&) {
        for (std::uint64_t i = 0; i < run[0].pages; i++) hashes_.erase(start + i * page_size);
        throw;
      }
      if (most > 0 && total.bytes + emitter.count().bytes > most) {
        total.add(emitter.count());
        return false;
      }
    }
    at = hole;
  }
  emitter.drop(end, ~0ull);
  emitter.flush();
  total.add(emitter.count());
  return true;
}

void SharedSegment::send_changed(const pagewire::Run& run, std::span<const std::byte> content, PageEmitter& emitter) {
  for (std::uint64_t i = 0; i < run.pages; i++) {
    const std::uint64_t page = run.address + i * page_size;
    const std::uint64_t hash = XXH3_64bits(content.data() + i * page_size, page_size);
    const auto [known, fresh] = hashes_.try_emplace(page, hash);
    if (!fresh && known->second == hash && sent_.contains(page)) continue;
    known->second = hash;
    // What is sent to a page server as it comes cannot be cut later (mapped_ends.h).
    if (page == mapped_end_) emitter.flush();
    emitter.add(page, page + page_size, false);
  }
  emitter.flush();
}

void SharedMemory::add(std::uint64_t shmid, UniqueFd fd) { segments_.try_emplace(shmid, shmid, std::move(fd)); }

bool SharedMemory::round(PageSink& sink, EmitCount& total, std::uint64_t most) {
  for (auto& [shmid, segment] : segments_)
    if (!segment.round(sink, debt_, total, most)) return false;
  return true;
}

void SharedMemory::owe_unacknowledged() {
  for (const auto& [object, run] : debt_.take_back())
    if (const auto it = segments_.find(pagewire::object_number(object)); it != segments_.end()) it->second.forget();
}

}  // namespace godwit::engine
