#include "agent/engine/resources/signalfd.h"

#include "agent/engine/resources/fown.h"

#include <sys/signalfd.h>
#include <sys/syscall.h>

namespace godwit::engine::resources::signalfd {

bool matches(const FdView& view) { return view.link == "anon_inode:[signalfd]"; }

std::optional<Refusal> refusal(const FdView&, SurveyContext&) { return std::nullopt; }

void dump(const FdView& view, image::FileEntry& entry, DumpContext&) {
  image::SignalfdEntry& file = *entry.mutable_sgfd();
  file.set_id(entry.id());
  file.set_flags(view.flags());
  *file.mutable_fown() = dump_fown(view.fd);
  file.set_sigmask(view.info.signalfd_mask.value());
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  const std::uint64_t mask = entry.sgfd().sigmask();
  // The raw call: libc's sigset_t is wider than the kernel's.
  const long fd = ::syscall(SYS_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC | SFD_NONBLOCK);
  return UniqueFd(static_cast<int>(check(fd, "create a signalfd for mask {:x}", mask)));
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::signalfd
