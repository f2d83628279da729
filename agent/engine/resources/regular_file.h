// Regular files, directories, devices without state, and O_PATH descriptors: a path, flags, a position.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::regular_file {

// The kinds differ in how they are checked; all are FD_REG in the image and are opened the same way.
bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);
UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace godwit::engine::resources::regular_file
