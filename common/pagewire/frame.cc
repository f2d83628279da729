#include "common/pagewire/frame.h"

#include "common/base/error.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include <xxhash.h>

namespace godwit::pagewire {
namespace {

constexpr std::uint64_t address_limit = std::uint64_t{1} << 56;  // five-level page tables; sums of runs stay below 2^64

bool known(FrameKind kind) {
  switch (kind) {
    case FrameKind::pages:
    case FrameKind::zero:
    case FrameKind::drop:
    case FrameKind::file:
    case FrameKind::round: return true;
  }
  return false;
}

bool known(ObjectType type) {
  switch (type) {
    case ObjectType::task:
    case ObjectType::shmem: return true;
  }
  return false;
}

// Which parts a frame has follows from its kind alone.
struct Shape {
  bool runs, payload, name;
};
constexpr Shape shape_of(FrameKind kind) {
  switch (kind) {
    case FrameKind::pages: return {true, true, false};
    case FrameKind::zero:
    case FrameKind::drop: return {true, false, false};
    case FrameKind::file: return {false, true, true};
    case FrameKind::round: return {false, false, false};
  }
  std::unreachable();
}

void check_header(const FrameHeader& h) {
  if (h.magic != frame_magic) fail(Errc::protocol, "frame: magic {:#x}, expected {:#x}", h.magic, frame_magic);
  const int kind = std::to_underlying(h.kind);
  if (!known(h.kind)) fail(Errc::protocol, "frame {}: unknown kind {}", h.sequence, kind);
  if (h.compression != Compression::none)
    fail(Errc::protocol, "frame {}: unknown compression {}", h.sequence, std::to_underlying(h.compression));
  if (h.sequence == 0) fail(Errc::protocol, "frame: sequence 0");
  const Shape shape = shape_of(h.kind);
  if (shape.runs ? h.runs == 0 || h.runs > max_runs : h.runs != 0)
    fail(Errc::protocol, "frame {}: {} runs in a frame of kind {}", h.sequence, h.runs, kind);
  if (h.payload_length > (shape.payload ? max_payload : 0))
    fail(Errc::protocol, "frame {}: payload of {} bytes in a frame of kind {}", h.sequence, h.payload_length, kind);
  if (shape.name ? h.name_length == 0 || h.name_length > max_name : h.name_length != 0)
    fail(Errc::protocol, "frame {}: name of {} bytes in a frame of kind {}", h.sequence, h.name_length, kind);
  if (h.flags & ~(h.kind == FrameKind::file ? last_part : 0))
    fail(Errc::protocol, "frame {}: unknown flags {:#x}", h.sequence, h.flags);
  if (shape.runs && !known(object_type(h.object)))
    fail(Errc::protocol, "frame {}: unknown object {:#x}", h.sequence, h.object);
  if (h.kind == FrameKind::pages && (h.payload_length == 0 || h.payload_length % page_size != 0))
    fail(Errc::protocol, "frame {}: payload of {} bytes is no number of pages", h.sequence, h.payload_length);
}

// A name becomes a file in an image directory.
std::string checked_name(const FrameHeader& h, std::span<const std::byte> trailer) {
  std::string name(reinterpret_cast<const char*>(trailer.data()), h.name_length);
  const bool plain = std::ranges::all_of(name, [](char c) { return c > ' ' && c < '\x7f' && c != '/'; });
  if (!plain || name.front() == '.') fail(Errc::protocol, "frame {}: bad file name", h.sequence);
  return name;
}

struct FreeState {
  void operator()(XXH3_state_t* s) const { XXH3_freeState(s); }
};

}  // namespace

FrameHeader parse_header(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(FrameHeader)) fail(Errc::protocol, "frame: only {} bytes", bytes.size());
  FrameHeader h;
  std::memcpy(&h, bytes.data(), sizeof h);
  check_header(h);
  return h;
}

std::vector<Run> parse_runs(const FrameHeader& h, std::span<const std::byte> trailer) {
  if (trailer.size() < h.runs * sizeof(Run)) fail(Errc::protocol, "frame {}: runs are cut off", h.sequence);
  std::vector<Run> runs(h.runs);
  std::ranges::copy(trailer.first(runs.size() * sizeof(Run)), std::as_writable_bytes(std::span(runs)).begin());
  std::uint64_t end = 0, pages = 0;
  for (const Run& r : runs) {
    if (r.address % page_size != 0 || r.pages == 0 || r.address >= address_limit || r.pages > address_limit / page_size)
      fail(Errc::protocol, "frame {}: bad run of {} pages at {:#x}", h.sequence, r.pages, r.address);
    if (r.address < end) fail(Errc::protocol, "frame {}: the run at {:#x} is not in order", h.sequence, r.address);
    end = r.address + r.pages * page_size;
    pages += r.pages;
  }
  if (h.kind == FrameKind::pages && pages * page_size != h.payload_length)
    fail(Errc::protocol, "frame {}: {} pages in a payload of {} bytes", h.sequence, pages, h.payload_length);
  return runs;
}

std::uint64_t checksum(std::uint64_t seed, const FrameHeader& header, std::span<const std::byte> trailer,
                       std::span<const std::byte> payload) {
  FrameHeader bare = header;
  bare.checksum = 0;
  bare.stream = 0;
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset_withSeed(state.get(), seed);
  XXH3_64bits_update(state.get(), &bare, sizeof bare);
  XXH3_64bits_update(state.get(), trailer.data(), trailer.size());
  XXH3_64bits_update(state.get(), payload.data(), payload.size());
  return XXH3_64bits_digest(state.get());
}

void append_manifest(std::string& out, const FrameHeader& header, std::span<const std::byte> trailer,
                     std::uint64_t offset) {
  out.append(reinterpret_cast<const char*>(&header), sizeof header);
  out.append(reinterpret_cast<const char*>(trailer.data()), trailer.size());
  out.append(reinterpret_cast<const char*>(&offset), sizeof offset);
}

std::vector<ManifestEntry> parse_manifest(std::string_view bytes) {
  std::span<const std::byte> rest = std::as_bytes(std::span(bytes));
  std::vector<ManifestEntry> entries;
  while (!rest.empty()) {
    ManifestEntry entry{.header = parse_header(rest), .runs = {}, .name = {}};
    rest = rest.subspan(sizeof(FrameHeader));
    const std::size_t trailer = trailer_length(entry.header);
    if (rest.size() < trailer + sizeof entry.offset)
      fail(Errc::protocol, "manifest: entry {} is cut off", entry.header.sequence);
    entry.runs = parse_runs(entry.header, rest.first(trailer));
    if (entry.header.kind == FrameKind::file) entry.name = checked_name(entry.header, rest.first(trailer));
    std::memcpy(&entry.offset, rest.data() + trailer, sizeof entry.offset);
    rest = rest.subspan(trailer + sizeof entry.offset);
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace godwit::pagewire
