// A frame: what the engine emits, the ring carries, the page wire sends and the manifest names.
//
// Layout: FrameHeader, then `runs` Run records (pages, zero, drop) or `name_length` bytes of name (file),
// then `payload_length` bytes. Little-endian, x86_64 only. docs/page-protocol.md has it byte by byte.
//
// Everything here is plain data and pure functions; no I/O, no allocation beyond the returned vectors.
// `parse_header` is the one gate for bytes from the network: after it, all lengths are in bounds.
#pragma once

#include "common/base/units.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace godwit::pagewire {

enum class FrameKind : std::uint8_t {
  pages = 1,  // payload: the pages of all runs, in order
  zero = 2,   // these pages are zero now
  drop = 3,   // these pages exist no longer
  file = 4,   // a state image or a part of one
  round = 5,  // the end of a round
};

enum class Compression : std::uint8_t { none = 1 };

inline constexpr std::uint32_t frame_magic = 0x57444731;  // "1GDW"
inline constexpr std::size_t max_runs = 64;
inline constexpr std::size_t max_payload = 256 * 1024;
inline constexpr std::size_t max_name = 255;

// What the payload belongs to: (id << 8) | type, CRIU's numbering.
enum class ObjectType : std::uint8_t { task = 1, shmem = 2 };
using ObjectId = std::uint64_t;
constexpr ObjectId object_id(ObjectType type, std::uint64_t id) { return (id << 8) | static_cast<std::uint8_t>(type); }
constexpr ObjectType object_type(ObjectId o) { return static_cast<ObjectType>(o & 0xff); }
constexpr std::uint64_t object_number(ObjectId o) { return o >> 8; }

struct FrameHeader {
  std::uint32_t magic = frame_magic;
  FrameKind kind{};
  Compression compression = Compression::none;
  std::uint16_t runs = 0;            // 1..max_runs for pages, zero, drop; else 0
  std::uint64_t sequence = 0;        // from 1, over the whole migration
  std::uint64_t object = 0;          // ObjectId; for file: offset of this part within the file
  std::uint32_t round = 0;           // 0 = first full round
  std::uint32_t payload_length = 0;  // bytes, <= max_payload
  std::uint16_t name_length = 0;     // file only
  std::uint16_t flags = 0;           // file: 1 = last part of this file
  std::uint32_t stream = 0;          // which page stream carries the payload; set by the sender
  std::uint64_t checksum = 0;        // XXH3-64, seeded, over header (checksum and stream 0), runs or name, payload
};
static_assert(sizeof(FrameHeader) == 48 && std::is_trivially_copyable_v<FrameHeader>);

inline constexpr std::uint16_t last_part = 1;

struct Run {
  std::uint64_t address = 0;  // of the first page; an offset for shmem
  std::uint64_t pages = 0;
};
static_assert(sizeof(Run) == 16);

constexpr std::uint64_t pages_in(std::span<const Run> runs) {
  std::uint64_t sum = 0;
  for (const Run& r : runs) sum += r.pages;
  return sum;
}

constexpr std::size_t trailer_length(const FrameHeader& h) { return h.runs * sizeof(Run) + h.name_length; }
constexpr std::size_t frame_length(const FrameHeader& h) { return sizeof h + trailer_length(h) + h.payload_length; }

// Throws Errc::protocol naming what is wrong. `bytes` is at least sizeof(FrameHeader).
FrameHeader parse_header(std::span<const std::byte> bytes);

// Runs are page aligned, ascending, non-overlapping, none wraps; for `pages` their sum is the payload.
std::vector<Run> parse_runs(const FrameHeader& header, std::span<const std::byte> trailer);

std::uint64_t checksum(std::uint64_t seed, const FrameHeader& header, std::span<const std::byte> trailer,
                       std::span<const std::byte> payload);

// One manifest entry, as it travels between agents and on to the engine: a frame without its payload,
// and where the payload lies. Serialised as header, trailer, offset.
struct ManifestEntry {
  FrameHeader header;
  std::vector<Run> runs;
  std::string name;
  std::uint64_t offset = 0;  // of the payload in the spool file of header.stream
};
void append_manifest(std::string& out, const FrameHeader& header, std::span<const std::byte> trailer,
                     std::uint64_t offset);
std::vector<ManifestEntry> parse_manifest(std::string_view bytes);  // Errc::protocol

}  // namespace godwit::pagewire
