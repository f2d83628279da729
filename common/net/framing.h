// An api::Envelope on the wire: u32 little-endian length (1 .. 1 MiB, checked before anything is allocated), then the
// message. Errors: Errc::internal for one that is too large to send, Errc::protocol for what arrives and is none;
// `sender` is named.
#pragma once

#include "common/api/control.pb.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace godwit::net {

inline constexpr std::uint32_t max_envelope = 1024 * 1024;

using FrameHead = std::array<std::byte, 4>;

std::string frame(const api::Envelope& envelope);
std::uint32_t body_length(const FrameHead& head, const std::string& sender);
api::Envelope parse_envelope(const std::string& body, const std::string& sender);

}  // namespace godwit::net
