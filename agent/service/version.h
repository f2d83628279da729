// The version of common/api/control.proto that this agent speaks, to the coordinator and to its peers.
#pragma once

#include "common/base/error.h"

#include <cstdint>
#include <string_view>

namespace godwit::service {

inline constexpr std::uint32_t control_version = 5;

// Errc::protocol. `who` is a noun: "the coordinator".
inline void check_version(std::uint32_t version, std::string_view who) {
  if (version == control_version) return;
  throw Error(Errc::protocol,
              fmt::format("{} speaks version {} of the control protocol, this agent {}", who, version, control_version),
              "run the same release of godwit on all nodes and on the coordinator");
}

}  // namespace godwit::service
