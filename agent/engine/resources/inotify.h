// inotify: watches with their numbers. Events that were queued and not read make the dump wait.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::inotify {

bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);
UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace godwit::engine::resources::inotify
