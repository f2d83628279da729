// Content of shared memory segments (MAP_SHARED | MAP_ANONYMOUS and memfd), dumped as objects of their own.
//
// Writes to shared memory through another mapping or by write(2) are invisible to the tracker, so every round reads all
// of a segment and sends what differs from what was sent, by hash. A segment is named by its shmid
// (resources/file_ids.h), and there is one SharedMemory for a tree, whose processes may share it.
#pragma once

#include "agent/engine/memory/dump_sink.h"
#include "agent/engine/memory/page_emitter.h"
#include "common/base/fd.h"

#include <cstdint>
#include <map>
#include <unordered_map>

namespace godwit::engine {

class SharedSegment {
 public:
  // `fd` reads the segment: from /proc/PID/map_files or pidfd_getfd.
  SharedSegment(std::uint64_t shmid, UniqueFd fd);
  // False: given up in the middle, since more than `most` bytes (0: no limit) have been sent in all. The rest stays to
  // be compared, as it does when the sink is TooSlow.
  bool round(PageSink& sink, Debt& debt, EmitCount& total, std::uint64_t most);
  void forget() { hashes_.clear(); }  // what was sent may not have arrived: send all again
  std::uint64_t shmid() const { return shmid_; }
  void mapped_until(std::uint64_t end) { mapped_end_ = end; }  // by anybody; no run that is sent crosses it
  const PageSet& sent() const { return sent_; }

 private:
  void send_changed(const pagewire::Run& run, std::span<const std::byte> content, PageEmitter& emitter);

  std::uint64_t shmid_;
  UniqueFd fd_;
  std::uint64_t mapped_end_ = 0;
  PageSet sent_;
  std::unordered_map<std::uint64_t, std::uint64_t> hashes_;  // by offset, of what was sent
};

class SharedMemory {
 public:
  bool known(std::uint64_t shmid) const { return segments_.contains(shmid); }
  void add(std::uint64_t shmid, UniqueFd fd);
  // shmid -> where its mappings end, 0 without any. Segments that nothing refers to any more are let go of: reading
  // them would keep them alive.
  void keep_only(const std::map<std::uint64_t, std::uint64_t>& ends) {
    std::erase_if(segments_, [&](const auto& s) { return !ends.contains(s.first); });
    for (auto& [shmid, segment] : segments_) segment.mapped_until(ends.at(shmid));
  }
  bool round(PageSink& sink, EmitCount& total, std::uint64_t most);  // as above
  void acknowledged(std::uint64_t sequence) { debt_.acknowledge(sequence); }
  bool all_acknowledged() const { return debt_.empty(); }
  void owe_unacknowledged();
  void add_held(HeldPages& held) const {
    for (const auto& [shmid, segment] : segments_)
      held[pagewire::object_id(pagewire::ObjectType::shmem, shmid)] = &segment.sent();
  }

 private:
  std::map<std::uint64_t, SharedSegment> segments_;
  Debt debt_;
};

}  // namespace godwit::engine
