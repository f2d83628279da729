#include "agent/engine/resources/regular_file.h"

#include "agent/engine/resources/ghost_file.h"
#include "agent/engine/resources/path_file.h"

namespace godwit::engine::resources::regular_file {

bool matches(const FdView& view) {
  return S_ISREG(view.st.st_mode) && view.link.starts_with('/') && !path_file::is_pseudo(view);
}

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  return path_file::deleted(view) ? ghost_file::refusal(view, context) : path_file::refusal(view, context);
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  *entry.mutable_reg() = path_file::describe(view, entry.id());
  if (!path_file::deleted(view)) return;
  context.ids.note_deleted(view.st.st_dev, view.st.st_ino);
  ghost_file::dump(view, *entry.mutable_reg(), context);
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context) {
  if (std::optional<UniqueFd> ghost = ghost_file::restore(entry.reg(), context)) return std::move(*ghost);
  return path_file::open(entry.reg(), entry.reg().name());
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::regular_file
