// A stream of control messages as it comes from a peer: lengths, then messages. What is a message is written again and
// read back the same.
#include "common/net/framing.h"
#include "common/base/error.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <span>

namespace godwit {

using namespace net;

void fuzz(std::string_view input) {
  while (input.size() >= sizeof(FrameHead)) {
    FrameHead head;
    std::ranges::copy(std::as_bytes(std::span(input)).first<sizeof(FrameHead)>(), head.begin());
    const std::uint32_t length = body_length(head, "a peer");
    require(length > 0 && length <= max_envelope);
    input.remove_prefix(sizeof head);
    if (length > input.size()) return;
    const api::Envelope envelope = parse_envelope(std::string(input.substr(0, length)), "a peer");
    input.remove_prefix(length);
    // Written again it is no longer than a frame may be: what is forwarded can be sent.
    const std::string again = frame(envelope);
    require(parse_envelope(again.substr(sizeof head), "us").SerializeAsString() == again.substr(sizeof head));
  }
}

}  // namespace godwit
