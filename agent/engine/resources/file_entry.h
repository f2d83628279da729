// What all members of a FileEntry have in common: open flags and owner.
#pragma once

#include "common/image/files.pb.h"

#include <cstdint>

namespace godwit::engine::resources {

// Open flags (O_*, without O_CLOEXEC); Errc::image_corrupt when the member that `type` names is missing.
std::uint32_t flags_of(const image::FileEntry& entry);
const image::FownEntry& fown_of(const image::FileEntry& entry);

}  // namespace godwit::engine::resources
