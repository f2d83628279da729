// epoll: which descriptors are watched, for what, with which data. Entries are made again once numbers are final.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::epoll {

bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);
UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace godwit::engine::resources::epoll
