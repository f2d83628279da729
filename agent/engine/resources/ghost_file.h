// Files that were deleted while open: their content travels along (ghost-file-ID.img) and becomes a file that is
// deleted as soon as it is open again. Several open files of one deleted file share one ghost.
#pragma once

#include "agent/engine/resources/fd_kind.h"

namespace godwit::engine::resources::ghost_file {

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context);
void dump(const FdView& view, image::RegFileEntry& entry, DumpContext& context);  // takes " (deleted)" off the name
std::optional<UniqueFd> restore(const image::RegFileEntry& entry, RestoreContext& context);  // none: it is no ghost

}  // namespace godwit::engine::resources::ghost_file
