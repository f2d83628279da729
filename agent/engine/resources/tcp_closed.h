// TCP sockets whose connection has ended, or ends at the destination because --tcp-close was given.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::tcp_closed {

bool matches(const FdView& view);
std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::FileEntry& entry, DumpContext& context);
UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace godwit::engine::resources::tcp_closed
