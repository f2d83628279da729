// The page server's parser. The first two bytes choose how the rest is cut and how much may be stored at a time; the
// payload that it finds must not depend on either.
#include "pageserver/session/frame_splitter.h"

#include "common/base/error.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <string>

namespace godwit {
namespace {

struct Found {
  std::string payload;
  std::uint64_t frames = 0, sequence = 0;
  bool refused = false;
  bool operator==(const Found&) const = default;
};

Found split(std::string_view wire, std::size_t chunk, std::uint64_t allowance) {
  pageserver::FrameSplitter splitter(0);
  Found found;
  std::vector<pageserver::FrameSplitter::Piece> pieces;
  try {
    while (!wire.empty()) {
      pieces.clear();
      const auto bytes = std::as_bytes(std::span(wire.substr(0, chunk)));
      const std::size_t n = splitter.take(bytes, allowance, pieces);
      require(n > 0 && n <= bytes.size());
      std::uint64_t given = 0;
      for (const auto& piece : pieces) {
        found.payload.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        given += piece.size();
      }
      require(given < allowance + page_size);
      wire.remove_prefix(n);
    }
  } catch (const Error&) {
    found.refused = true;
    // What came before the refusal is cut differently; only the verdict is compared.
    found.payload.clear();
  }
  found.frames = splitter.frames();
  found.sequence = splitter.sequence();
  return found;
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.size() < 2) return;
  const std::size_t chunk = 1 + static_cast<unsigned char>(input[0]);
  const std::uint64_t allowance = 1 + 16 * static_cast<unsigned char>(input[1]);
  const std::string_view wire = input.substr(2);
  require(split(wire, chunk, allowance) == split(wire, wire.size(), std::uint64_t{1} << 40));
}

}  // namespace godwit
