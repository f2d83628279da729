// What all members of a FileEntry have in common: open flags and owner.
#pragma once

#include "common/image/files.pb.h"

#include <cstdint>
#include <string_view>

namespace godwit::engine::resources {

// Open flags (O_*, without O_CLOEXEC); Errc::image_corrupt when the member that `type` names is missing.
std::uint32_t flags_of(const image::FileEntry& entry);
const image::FownEntry& fown_of(const image::FileEntry& entry);

// As the library's FdType_Name, which first takes 2 ms to learn the names of all that there is.
std::string_view type_name(image::FdType type);

}  // namespace godwit::engine::resources
