// The relay between a dump and a page server that wants TLS: bytes of both ends, as each likes. The first byte says
// the form of the headers and how the bytes arrive, the second how many of them are the server's. Pages are zeroes.
#include "pageserver/criu/relay.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/said_stream.h"

#include <algorithm>
#include <array>

namespace godwit {

using namespace pageserver::criu;

namespace {

class Zeroes : public PageSource {
 public:
  explicit Zeroes(std::size_t piece) : piece_(piece) {}
  std::span<const std::byte> take_some(std::size_t most) override {
    const std::size_t some = std::min({most, piece_, zeroes_.size()});
    if (some > left_) fail(Errc::peer_lost, "the engine went away");
    left_ -= some;
    return std::span(zeroes_).first(some);
  }
  void wait() override {}

 private:
  std::array<std::byte, 8192> zeroes_{};
  std::size_t piece_, left_ = 1u << 20;
};

}  // namespace

void fuzz(std::string_view input) {
  if (input.size() < 2) return;
  const auto how = static_cast<unsigned char>(input[0]);
  const std::size_t answers = static_cast<unsigned char>(input[1]);
  const std::string_view bytes = input.substr(2);
  SaidStream server(bytes.substr(0, answers), 1 + how % 5);
  SaidStream engine(bytes.substr(std::min(answers, bytes.size())), 1 + how * std::size_t{16});
  const auto size = how & 1 ? pagewire::criu::HeaderSize::until_4_1 : pagewire::criu::HeaderSize::since_4_2;
  Zeroes pages(1 + how * std::size_t{40});
  relay(engine, pages, server, size);
  // A session that was closed: the server got its end, and the engine an answer.
  require(server.heard() >= bytes_in(size) && engine.heard() >= 4);
}

}  // namespace godwit
