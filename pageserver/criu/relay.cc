#include "pageserver/criu/relay.h"

#include "common/base/log.h"
#include "pageserver/criu/options.h"
#include "pageserver/criu/tls_stream.h"

#include <algorithm>
#include <array>

namespace godwit::pageserver::criu {

using namespace pagewire::criu;

namespace {

// What a server may take to accept more, to answer what it has only to look up, and a handshake to be done.
constexpr std::chrono::seconds patience{30};
// To answer when it has pages: it writes them all to its disk first. The engine's own limits are no longer.
constexpr std::chrono::hours stored_within{1};
constexpr std::chrono::hours while_the_engine_thinks{24};
constexpr std::size_t record_boundary = 64u << 10;

std::size_t answer_bytes(Command command) {
  switch (command) {
    case Command::open2: return 1;
    case Command::parent:
    case Command::close:
    case Command::force_close: return 4;
    case Command::open:
    case Command::add:
    case Command::get: return 0;
  }
  return 0;
}

void pass_answer(Stream& server, Stream& engine, std::size_t count, std::chrono::seconds limit) {
  std::array<std::byte, 4> answer{};
  for (std::size_t got = 0; got < count;) {
    const std::size_t n = server.receive(std::span(answer).subspan(got, count - got), net::in(limit));
    if (n == 0) fail(Errc::peer_lost, "the page server hung up instead of answering");
    got += n;
  }
  engine.send(std::span(answer).first(count), net::in(patience));
}

// Pieces of the run's own 64 KiB, whatever comes at once.
void pass_pages(PageSource& pages, Stream& server, std::uint64_t bytes) {
  for (std::uint64_t done = 0; done < bytes;) {
    const std::uint64_t piece = std::min(bytes - done, record_boundary - done % record_boundary);
    const std::span<const std::byte> some = pages.take_some(piece);
    if (some.empty()) {
      server.flush(net::in(patience));
      pages.wait();
      continue;
    }
    server.write(some, net::in(patience));
    done += some.size();
  }
}

}  // namespace

// What goes to the server is gathered as long as there is more of it.
void relay(Stream& engine, PageSource& pages, Stream& server, HeaderSize size) {
  BufferedReader reader(engine);
  bool has_pages = false;
  for (;;) {
    if (!reader.has(bytes_in(size))) server.flush(net::in(patience));
    const std::span<const std::byte> bytes = reader.take(bytes_in(size), net::in(while_the_engine_thinks));
    if (bytes.empty()) fail(Errc::peer_lost, "the engine went away without closing the session");
    const Header header = decode(size, bytes);
    server.write(bytes, net::in(patience));
    pass_pages(pages, server, header.payload_bytes());
    has_pages = has_pages || header.payload_bytes() > 0;
    if (const std::size_t answer = answer_bytes(header.command)) {
      server.flush(net::in(patience));
      pass_answer(server, engine, answer, has_pages && header.command != Command::parent ? stored_within : patience);
    }
    if (header.command == Command::close || header.command == Command::force_close) return;
  }
}

int relay_main(int argc, char** argv) {
  int exit_code = 0;
  const auto options = parse_relay(argc, argv, exit_code);
  if (!options) return exit_code;
  log::init("godwit-pageserver", log::Level::warn);
  try {
    net::adopt_stream(options->socket);
    PlainStream engine{UniqueFd(options->socket)};
    pagewire::RingFds shared = pagewire::make_ring();
    pagewire::send_ring(engine.fd(), shared);
    pagewire::Ring ring(std::move(shared));
    RingPages pages(ring, engine.fd());
    const TlsSettings tls(options->files, options->check_name ? options->address : "");
    UniqueFd connection = net::dial(options->address, static_cast<std::uint16_t>(options->port), patience);
    net::fit_buffers(connection.get());
    TlsStream server(std::move(connection), tls, TlsSide::client, net::in(patience));
    relay(engine, pages, server, options->header);
    server.part(net::in(std::chrono::seconds(1)));
    return 0;
  } catch (const std::exception& e) {
    log::error("page-relay.failed", {{"message", e.what()}});
    return 1;
  }
}

}  // namespace godwit::pageserver::criu
