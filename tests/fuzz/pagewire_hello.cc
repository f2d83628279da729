// The opening messages of a page stream. The first 128 bytes are a hello, or the first 32 an answer.
#include "common/pagewire/wire.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

using namespace pagewire;

void fuzz(std::string_view input) {
  const auto bytes = std::as_bytes(std::span(input));
  if (bytes.size() >= sizeof(Hello)) {
    const ParsedHello h = parse_hello(bytes.first<sizeof(Hello)>());
    if (h.reason == Reason::none) {
      const Hello again = make_hello(h.migration, h.token, h.stream, h.streams);
      require(std::string_view(reinterpret_cast<const char*>(&again), sizeof again) == input.substr(0, sizeof again));
    }
  } else if (bytes.size() >= sizeof(Answer)) {
    const Answer a = parse_answer(bytes.first<sizeof(Answer)>());
    require(a.kind >= AnswerKind::welcome && a.kind <= AnswerKind::failed);
    require(!error_of(a.reason).message().empty());
  }
}

}  // namespace godwit
