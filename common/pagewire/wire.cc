#include "common/pagewire/wire.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace godwit::pagewire {
namespace {

static_assert(std::endian::native == std::endian::little);

bool good_migration_name(std::string_view name) {
  return !name.empty() && name.size() <= max_migration_name && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
}

bool known(AnswerKind kind) {
  switch (kind) {
    case AnswerKind::welcome:
    case AnswerKind::refused:
    case AnswerKind::stored:
    case AnswerKind::failed: return true;
  }
  return false;
}

}  // namespace

Hello make_hello(const std::string& migration, std::span<const std::uint8_t> token, std::uint32_t stream,
                 std::uint32_t streams) {
  if (!good_migration_name(migration)) fail(Errc::invalid_argument, "'{}' is no migration id", migration);
  if (token.size() != token_length) fail(Errc::invalid_argument, "a token of {} bytes", token.size());
  if (streams == 0 || streams > max_streams || stream >= streams)
    fail(Errc::invalid_argument, "stream {} of {}, at most {}", stream, streams, max_streams);
  Hello hello{.stream = stream, .streams = streams};
  std::ranges::copy(token, hello.token.begin());
  std::ranges::copy(migration, hello.migration.begin());
  return hello;
}

ParsedHello parse_hello(std::span<const std::byte, sizeof(Hello)> bytes) {
  Hello hello;
  std::memcpy(&hello, bytes.data(), sizeof hello);
  const auto refuse = [](Reason reason) { return ParsedHello{.reason = reason, .migration = {}}; };
  if (hello.magic != hello_magic) return refuse(Reason::protocol);
  if (hello.version != wire_version) return refuse(Reason::version);  // everything below is version 1's
  if (hello.architecture != Architecture::x86_64 || hello.page_size != page_size) return refuse(Reason::machine);
  const auto end = std::ranges::find(hello.migration, '\0');
  const std::string migration(hello.migration.begin(), end);
  const bool padded = std::all_of(end, hello.migration.end(), [](char c) { return c == '\0'; });
  if (!good_migration_name(migration) || !padded || hello.options != 0 || hello.reserved != 0 || hello.streams == 0 ||
      hello.streams > max_streams || hello.stream >= hello.streams)
    return refuse(Reason::protocol);
  return {.migration = migration, .token = hello.token, .stream = hello.stream, .streams = hello.streams};
}

Answer parse_answer(std::span<const std::byte, sizeof(Answer)> bytes) {
  Answer a;
  std::memcpy(&a, bytes.data(), sizeof a);
  if (a.magic != answer_magic || !known(a.kind)) fail(Errc::protocol, "the page server's answer is none");
  return a;
}

Reason reason_of(Errc code) {
  switch (code) {
    case Errc::denied: return Reason::denied;
    case Errc::protocol: return Reason::protocol;
    case Errc::no_space: return Reason::no_space;
    case Errc::cancelled: return Reason::closed;
    case Errc::unsupported:
    case Errc::refused:
    case Errc::invalid_argument:
    case Errc::not_found:
    case Errc::already_exists:
    case Errc::target_gone:
    case Errc::image_corrupt:
    case Errc::kernel_missing:
    case Errc::peer_lost:
    case Errc::timed_out:
    case Errc::busy:
    case Errc::internal: return Reason::internal;
  }
  return Reason::internal;
}

Error error_of(Reason reason) {
  switch (reason) {
    case Reason::version: return Error(Errc::protocol, "the page server speaks another version of the wire");
    case Reason::machine: return Error(Errc::unsupported, "the page server runs on another kind of machine");
    case Reason::denied:
      return Error(Errc::denied, "the page server does not accept this migration's token or this node's certificate");
    case Reason::stream_taken: return Error(Errc::denied, "the page server has already seen this stream");
    case Reason::protocol: return Error(Errc::protocol, "the page server did not understand what it was sent");
    case Reason::no_space: return Error(Errc::no_space, "the page server has no space left in the spool");
    case Reason::closed: return Error(Errc::peer_lost, "the destination has closed the page server's session");
    case Reason::none:
    case Reason::internal: break;
  }
  return Error(Errc::peer_lost, "the page server failed");
}

}  // namespace godwit::pagewire
