// Frames out of the spool into a restore: in sequence order, each verified on a private copy before it is used.
//
// The page server writes the spool and is not trusted: files are opened beneath the directory without following links,
// bytes are copied first and checked then, against the checksum that came through the agents' channel.
#pragma once

#include "common/base/buffer.h"
#include "common/base/fd.h"
#include "common/pagewire/frame.h"

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string_view>
#include <vector>

namespace godwit::engine {

// What is done with a verified frame.
class FrameTarget {
 public:
  virtual ~FrameTarget() = default;
  virtual void pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs,
                     std::span<const std::byte> data) = 0;
  virtual void zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) = 0;
  virtual void drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) = 0;
  virtual void file(std::string_view name, std::uint64_t offset, std::span<const std::byte> part, bool last) = 0;
  virtual void round_ended(std::uint32_t round) = 0;
};

class Absorber {
 public:
  // `window`: the files are rings of so many bytes (pagewire::spool_window); 0: they hold everything.
  Absorber(UniqueFd spool_directory, std::uint64_t seed, std::uint64_t window);

  void manifest(std::string_view entries);                // queue; Errc::protocol when not in sequence
  void stored(std::uint32_t stream, std::uint64_t upto);  // bytes of the stream that may be read
  // Applies at most `most` frames that are ready; returns how many. Errc::image_corrupt names frame and place.
  std::size_t absorb(FrameTarget& target, std::size_t most = 8);

  std::uint64_t absorbed() const { return absorbed_; }  // sequence
  bool waiting() const { return !queue_.empty(); }
  bool full() const { return queued_bytes_ > most_queued / 8; }  // better not to be told of more just now
  struct Freed {
    std::uint32_t stream;
    std::uint64_t upto;
  };
  // What the page server may write over, by stream, as far as it is worth telling.
  std::vector<Freed> freed();

 private:
  static constexpr std::uint64_t most_queued = 128u << 20;  // bytes: no ring and no sockets hold so much

  struct Stream {
    UniqueFd file;
    std::uint64_t stored = 0, used = 0, freed = 0;
  };
  Stream& stream(std::uint32_t number);
  bool starved();
  std::span<std::byte> copy_payload(const pagewire::ManifestEntry& entry);
  void apply(const pagewire::ManifestEntry& entry, FrameTarget& target);

  UniqueFd directory_;
  std::uint64_t seed_, window_;
  std::deque<pagewire::ManifestEntry> queue_;
  std::map<std::uint32_t, Stream> streams_;
  Buffer copy_;
  std::uint64_t absorbed_ = 0, queued_ = 0, queued_bytes_ = 0;
};

}  // namespace godwit::engine
