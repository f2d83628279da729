// pidfd: a process as a file, one of the tree, or one that has ended and been waited for. That of a thread is refused:
// threads are made after the descriptors.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::process_file {

bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);
UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace godwit::engine::resources::process_file
