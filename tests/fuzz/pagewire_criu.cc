// A header of CRIU's page-server protocol, in the form that its own bytes say.
#include "common/pagewire/criu.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

using namespace pagewire;

void fuzz(std::string_view input) {
  const auto bytes = std::as_bytes(std::span(input));
  if (bytes.size() < criu::smallest_header) return;
  const criu::HeaderSize size = criu::header_size_of(bytes.first<criu::smallest_header>());
  if (bytes.size() < criu::bytes_in(size)) return;
  const criu::Header h = criu::decode(size, bytes);
  if (h.command == criu::Command::add) {
    require(h.pages > 0 && h.address + h.pages * page_size > h.address);
    require(h.payload_bytes() == 0 || h.payload_bytes() / page_size == h.pages);
  }
  if (h.command == criu::Command::get) return;  // names no object of ours
  require(criu::decode(size, criu::encode(size, h).span()) == h);
}

}  // namespace godwit
