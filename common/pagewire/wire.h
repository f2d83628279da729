// What goes over a page stream besides frames: the client's hello, and the server's answers.
//
// After the TLS handshake the client sends one Hello, the server one Answer (welcome or refused). Then the client
// sends frames (frame.h) and the server, now and then, an Answer (stored, or failed and the end). The client says
// goodbye with TLS's close_notify between two frames: it is authenticated, so nothing can be cut off unseen.
//
// Plain data and pure functions. Little-endian. docs/page-protocol.md has it byte by byte.
#pragma once

#include "common/base/error.h"
#include "common/pagewire/frame.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace godwit::pagewire {

inline constexpr std::uint64_t hello_magic = 0x3145474150574447;  // "GDWPAGE1"
inline constexpr std::uint32_t answer_magic = 0x41574731;         // "1GWA"
inline constexpr std::uint16_t wire_version = 1;
inline constexpr std::size_t max_migration_name = 64;
inline constexpr std::size_t token_length = 32;
inline constexpr std::uint32_t max_streams = 16;

enum class Architecture : std::uint16_t { x86_64 = 1 };

struct Hello {
  std::uint64_t magic = hello_magic;
  std::uint16_t version = wire_version;
  Architecture architecture = Architecture::x86_64;
  std::uint32_t page_size = 4096;
  std::uint32_t stream = 0;   // 0 .. streams - 1
  std::uint32_t streams = 0;  // 1 .. max_streams
  std::uint32_t options = 0;  // none is defined: 0
  std::uint32_t reserved = 0;
  std::array<std::uint8_t, token_length> token{};
  std::array<char, max_migration_name> migration{};  // padded with zeros
};
static_assert(sizeof(Hello) == 128 && std::is_trivially_copyable_v<Hello>);

enum class AnswerKind : std::uint16_t { welcome = 1, refused = 2, stored = 3, failed = 4 };

// Why a stream is refused or failed.
enum class Reason : std::uint16_t {
  none = 1,
  version = 2,       // another version of the wire
  machine = 3,       // another architecture or page size
  denied = 4,        // no such session, wrong token, not the node it was opened for: never said which
  stream_taken = 5,  // this stream has been opened before
  protocol = 6,      // a hello or frame that cannot be
  no_space = 7,      // the spool is full beyond its limit
  closed = 8,        // the destination has closed the session
  internal = 9,
};

struct Answer {
  std::uint32_t magic = answer_magic;
  AnswerKind kind{};
  Reason reason = Reason::none;
  std::uint32_t stream = 0;
  std::uint32_t reserved = 0;
  std::uint64_t sequence = 0;  // stored: the last frame of this stream that is stored completely
  std::uint64_t bytes = 0;     // stored: length of the stream's spool file
};
static_assert(sizeof(Answer) == 32 && std::is_trivially_copyable_v<Answer>);

using Token = std::array<std::uint8_t, token_length>;

Hello make_hello(const std::string& migration, std::span<const std::uint8_t> token, std::uint32_t stream,
                 std::uint32_t streams);  // Errc::invalid_argument

// The hello, or why it is refused. Says nothing about the token.
struct ParsedHello {
  Reason reason = Reason::none;
  std::string migration;
  Token token{};
  std::uint32_t stream = 0;
  std::uint32_t streams = 0;
};
ParsedHello parse_hello(std::span<const std::byte, sizeof(Hello)> bytes);

Answer parse_answer(std::span<const std::byte, sizeof(Answer)> bytes);  // Errc::protocol

Reason reason_of(Errc code);
Error error_of(Reason reason);  // what a refused or failed client tells its operator

// Where the payload after one that ends at `end` begins: every payload starts on a page.
constexpr std::uint64_t next_offset(std::uint64_t end) { return page_up(end); }

// Offsets count the bytes of a stream for ever; its spool file is a ring of this many bytes, written over and over. New
// pages for everything that passes through would cost as much as receiving it.
constexpr std::uint64_t spool_window(std::uint64_t spool_limit, std::uint32_t streams) {
  return page_down(spool_limit / streams);
}

// The bytes [offset, offset + length) of a stream lie in its file in at most two places.
struct SpoolPlace {
  std::uint64_t first = 0;         // where they begin
  std::uint64_t first_length = 0;  // the rest is at the file's beginning
};
constexpr SpoolPlace spool_place(std::uint64_t window, std::uint64_t offset, std::uint64_t length) {
  if (window == 0) return {offset, length};  // a file that just grows
  return {offset % window, std::min(length, window - offset % window)};
}

}  // namespace godwit::pagewire
