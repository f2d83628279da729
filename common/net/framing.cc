#include "common/net/framing.h"

#include "common/base/error.h"

namespace godwit::net {

std::string frame(const api::Envelope& envelope) {
  const std::size_t length = envelope.ByteSizeLong();
  if (length > max_envelope)
    fail(Errc::internal, "a message of {} bytes is over the limit of {}", length, max_envelope);
  std::string out(sizeof(FrameHead), '\0');
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(length >> (8 * i));
  envelope.AppendToString(&out);
  return out;
}

std::uint32_t body_length(const FrameHead& head, const std::string& sender) {
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < head.size(); ++i) length |= std::to_integer<std::uint32_t>(head[i]) << (8 * i);
  if (length == 0 || length > max_envelope) fail(Errc::protocol, "{} announces a message of {} bytes", sender, length);
  return length;
}

api::Envelope parse_envelope(const std::string& body, const std::string& sender) {
  api::Envelope envelope;
  if (!envelope.ParseFromString(body)) fail(Errc::protocol, "{} sent what is no message", sender);
  return envelope;
}

}  // namespace godwit::net
