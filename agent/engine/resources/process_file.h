// pidfd: a process or a thread (PIDFD_THREAD) as a file, one of the tree, or one that has ended and been waited for.
#pragma once

#include "agent/engine/resources/fd_kind.h"

#include <optional>

#include <sys/types.h>

namespace godwit::engine::resources::process_file {

bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);
UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
std::optional<pid_t> thread_of(const image::FileEntry& entry);  // it has to be there before this is restored
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace godwit::engine::resources::process_file
