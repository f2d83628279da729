// Manifests: what one agent tells the other about frames. What parses is written again and must be the same bytes.
#include "common/pagewire/frame.h"
#include "tests/fuzz/fuzz.h"

#include <span>
#include <string>

namespace godwit {

void fuzz(std::string_view input) {
  std::string again;
  for (const pagewire::ManifestEntry& e : pagewire::parse_manifest(input)) {
    const auto trailer = e.name.empty() ? std::as_bytes(std::span(e.runs)) : std::as_bytes(std::span(e.name));
    require(trailer.size() == pagewire::trailer_length(e.header));
    require(e.header.payload_length <= pagewire::max_payload);
    pagewire::append_manifest(again, e.header, trailer, e.offset);
  }
  require(again == input);
}

}  // namespace godwit
