#include "agent/engine/resources/eventfd.h"

#include "agent/engine/resources/fown.h"

#include <sys/eventfd.h>

namespace godwit::engine::resources::eventfd {

bool matches(const FdView& view) { return view.link == "anon_inode:[eventfd]"; }

std::optional<Refusal> refusal(const FdView&, SurveyContext&) { return std::nullopt; }

void dump(const FdView& view, image::FileEntry& entry, DumpContext&) {
  image::EventfdFileEntry& file = *entry.mutable_efd();
  file.set_id(entry.id());
  file.set_flags(view.flags());
  *file.mutable_fown() = dump_fown(view.fd);
  file.set_counter(view.info.eventfd.value().count);
  if (view.info.eventfd->semaphore) file.set_semaphore(true);
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  const image::EventfdFileEntry& file = entry.efd();
  const int flags = EFD_CLOEXEC | EFD_NONBLOCK | (file.semaphore() ? EFD_SEMAPHORE : 0);
  UniqueFd fd(check(::eventfd(0, flags), "create an eventfd"));
  const std::uint64_t counter = file.counter();
  // eventfd(2) takes only 32 bits; adding 0 would be no change.
  if (counter != 0) check(::write(fd.get(), &counter, sizeof counter), "set an eventfd to {}", counter);
  return fd;
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::eventfd
