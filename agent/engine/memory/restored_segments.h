// Shared memory that is being restored: anonymous (MAP_SHARED | MAP_ANONYMOUS) and memfds, each once for a whole tree.
//
// Somebody in the tree's namespaces makes a segment, since its mappings and descriptors must be of that file; here we
// hold a second descriptor to fill it. One thread.
#pragma once

#include "common/base/fd.h"
#include "common/pagewire/frame.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

#include <sys/types.h>

namespace godwit::engine {

struct SegmentSpec {
  bool memfd = false;  // else anonymous shared memory
  std::string memfd_name;
  std::uint64_t size = 0;
  unsigned create_flags = 0;  // of memfd_create
  bool operator==(const SegmentSpec&) const = default;
};

class RestoredSegments {
 public:
  struct Made {
    int number = -1;  // of the descriptor that its maker keeps
    UniqueFd ours;
  };
  using Make = std::function<Made(const SegmentSpec&)>;

  // `maker`: the PID that the tasks know the maker by.
  RestoredSegments(pid_t maker, Make make) : maker_(maker), make_(std::move(make)) {}

  // What it is, before it is needed; shared anonymous memory is as large as its furthest mapping reaches.
  void declare(std::uint64_t shmid, SegmentSpec spec) { segments_[shmid].spec = std::move(spec); }
  void reaches(std::uint64_t shmid, std::uint64_t size);

  // Its descriptor in the maker's table; it is made on first need.
  int number(std::uint64_t shmid) { return segment(shmid).made.number; }
  pid_t maker() const { return maker_; }

  void fill(std::uint64_t shmid, std::span<const pagewire::Run> runs, std::span<const std::byte> data);
  void clear(std::uint64_t shmid, std::span<const pagewire::Run> runs);
  void finish();  // memfds get their last size

  std::map<std::uint32_t, int> numbers();  // of all, made or not until now

 private:
  struct Segment {
    SegmentSpec spec;
    Made made;
  };
  Segment& segment(std::uint64_t shmid);

  pid_t maker_;
  Make make_;
  std::map<std::uint64_t, Segment> segments_;
};

}  // namespace godwit::engine
