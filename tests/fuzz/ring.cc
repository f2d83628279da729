// The ring between engine and agent as its reader finds it when the writer has gone mad: control words and data are the
// input. Whatever stands there, records lie within the ring and the walk ends.
#include "common/pagewire/ring.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <cstring>

namespace godwit {

using namespace pagewire;

namespace {

constexpr std::size_t capacity = page_size;
constexpr std::size_t control_words = 192;  // head, tail, space_wanted: a cache line each

std::size_t touch(std::span<const std::byte> record) {
  std::size_t sum = 0;
  for (const std::byte b : record) sum += std::to_integer<std::size_t>(b);
  return sum;
}

}  // namespace

void fuzz(std::string_view input) {
  RingFds fds = make_ring(capacity);
  const auto bytes = std::as_bytes(std::span(input));
  const std::size_t control = std::min(bytes.size(), control_words);
  pwrite_all(fds.memory.get(), bytes.first(control), 0);
  const auto data = bytes.subspan(control).first(std::min(bytes.size() - control, capacity));
  pwrite_all(fds.memory.get(), data, page_size);

  Ring ring(std::move(fds));
  std::size_t ahead = 0, sum = 0;
  while (const auto record = ring.next()) {
    require(record->size() <= capacity);
    sum += touch(*record);
    require(++ahead <= capacity / 64);  // a record takes a slot at least
  }
  for (; ahead > 0; ahead--) {
    const auto record = ring.front();
    require(record.has_value());
    sum -= touch(*record);
    ring.release();
  }
  require(sum == 0 && !ring.front());
}

}  // namespace godwit
