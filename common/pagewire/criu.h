// CRIU's page-server protocol: the fixed header in front of everything a client says, and what its numbers mean.
//
// There is no magic and no version. The header had 24 bytes up to CRIU 4.1 and has 32 since 4.2; a server tells them
// apart by the first one (header_size_of), a client has to be told. Integers are little-endian, pages have 4096 bytes.
//
// Pure functions on plain data. `decode` is the one gate for bytes from the network: after it, the command is known
// (the legacy ones are turned into the ones that replaced them), the object has a kind and a number that can be a file
// name, and the run neither wraps nor is empty where it may not be. Errors: Errc::protocol.
#pragma once

#include "common/pagewire/frame.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace godwit::pagewire::criu {

enum class Command : std::uint16_t {
  open = 3,              // legacy: OPEN2 without an answer
  open2 = 4,             // the answer is one byte: whether the server's parent images have this object
  parent = 5,            // the same question alone; the answer is an int
  add = 6,               // a run; its pages follow when it is present
  get = 7,               // asks for pages; only lazy servers are asked
  close = 0x1023,        // the answer is an int, 0
  force_close = 0x1024,  // the same, from clients that keep the connection open
};

// Of a run; the same bits as in pagemap-*.img.
enum RunFlag : std::uint16_t {
  run_parent = 1,   // the parent has these pages; nothing follows
  run_lazy = 2,     // may be fetched after the restore
  run_present = 4,  // the pages follow
};

struct Header {
  Command command{};
  std::uint16_t flags = 0;  // of RunFlag; add only
  std::uint64_t pages = 0;
  std::uint64_t address = 0;  // of shared memory: the offset
  ObjectId object = 0;

  bool has_payload() const { return command == Command::add && (flags & run_present) != 0; }
  std::uint64_t payload_bytes() const { return has_payload() ? pages * page_size : 0; }
  bool operator==(const Header&) const = default;
};

enum class HeaderSize : std::uint8_t { until_4_1 = 24, since_4_2 = 32 };
constexpr std::size_t bytes_in(HeaderSize size) { return static_cast<std::size_t>(size); }
inline constexpr std::size_t smallest_header = bytes_in(HeaderSize::until_4_1);
inline constexpr std::size_t largest_header = bytes_in(HeaderSize::since_4_2);

// From the first 24 bytes of a session, which are a question about an object: in the long form its zero address stands
// where the short form has the object, which is never zero.
HeaderSize header_size_of(std::span<const std::byte, smallest_header> first);

// Needs bytes_in(size) bytes.
Header decode(HeaderSize size, std::span<const std::byte> bytes);

struct EncodedHeader {
  std::array<std::byte, largest_header> bytes{};
  std::size_t length = 0;
  std::span<const std::byte> span() const { return std::span(bytes).first(length); }
};
// Errc::invalid_argument when the short form cannot hold the count.
EncodedHeader encode(HeaderSize size, const Header& header);

// "24" or "32".
HeaderSize parse_header_size(std::string_view text);

}  // namespace godwit::pagewire::criu
