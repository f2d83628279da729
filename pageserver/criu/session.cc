#include "pageserver/criu/session.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace godwit::pageserver::criu {

using namespace pagewire::criu;

namespace {

bool closes(std::span<const std::byte> header) {
  std::uint16_t command = 0;
  std::memcpy(&command, header.data(), sizeof command);
  return command == static_cast<std::uint16_t>(Command::close) ||
         command == static_cast<std::uint16_t>(Command::force_close);
}

}  // namespace

Session::Session(Stream& stream, ImageWriter& images, SessionLimits limits)
    : stream_(stream),
      images_(images),
      reader_(stream, buffers, [this](std::size_t from, std::size_t to) { queue_.release(from, to); }),
      queue_(images, buffers),
      limits_(limits) {}

// False when the client has gone.
bool Session::next(Header& header) {
  // The first byte of a command may take long, the others may not.
  std::array<std::byte, largest_header> bytes{};
  const auto take = [&](std::size_t from, std::size_t count, std::chrono::milliseconds limit) {
    const std::span<const std::byte> part = reader_.take(count, net::in(limit));
    std::ranges::copy(part, bytes.begin() + static_cast<std::ptrdiff_t>(from));
    return !part.empty();
  };
  if (!take(0, 1, limits_.idle)) return false;
  const bool first = size_ == HeaderSize{};
  const std::size_t known = first ? smallest_header : bytes_in(size_);
  const auto rest = [&](std::size_t from, std::size_t until) {
    if (from < until && !take(from, until - from, limits_.stall))
      fail(Errc::peer_lost, "the connection ended within a command");
  };
  rest(1, known);
  if (first) {
    size_ = header_size_of(std::span(bytes).first<smallest_header>());
    // A session that is closed at once has nothing that tells its form; closing needs no more than this.
    if (closes(bytes)) size_ = HeaderSize::until_4_1;
    rest(known, bytes_in(size_));
  }
  header = decode(size_, bytes);
  return true;
}

void Session::answer(std::span<const std::byte> bytes) { stream_.send(bytes, net::in(limits_.stall)); }

void Session::receive_pages(std::uint64_t bytes) {
  while (bytes > 0) {
    const std::span<const std::byte> part = reader_.take_some(bytes, net::in(limits_.stall));
    queue_.add(part);
    bytes -= part.size();
  }
}

void Session::run() {
  const auto number = [](std::int32_t value) { return std::bit_cast<std::array<std::byte, 4>>(value); };
  for (Header h;;) {
    if (!next(h))
      fail(Errc::peer_lost, "the client went away without closing the session: the images are not complete");
    if (h.command != Command::add) queue_.drain();
    switch (h.command) {
      case Command::open: images_.open(h.object); break;
      case Command::open2: {
        const std::byte has_parent{images_.open(h.object)};
        answer(std::span(&has_parent, 1));
        break;
      }
      case Command::parent: answer(number(images_.parent_has(h.object))); break;
      case Command::add:
        images_.begin(h);
        receive_pages(h.payload_bytes());
        break;
      case Command::get: fail(Errc::protocol, "the client asks for pages, but this server only receives them");
      case Command::close:
      case Command::force_close:
        images_.finish();
        answer(number(0));
        // After a forced close somebody may hold the connection open for the next server.
        if (h.command == Command::close) stream_.part(net::in(limits_.stall));
        return;
    }
  }
}

}  // namespace godwit::pageserver::criu
